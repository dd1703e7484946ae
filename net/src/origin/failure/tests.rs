use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn wait(value: &str) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
    // Sun, 06 Nov 1994 08:49:37 GMT
    retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
}

#[test]
fn retry_after_is_read_as_seconds_or_as_a_date() {
    assert_eq!(wait("120"), Some(Duration::from_secs(120)));
    assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
    assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
    for nonsense in ["soon", "-1", "1.5", "99999999999999999999999"] {
        assert_eq!(wait(nonsense), None, "{nonsense}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), SystemTime::UNIX_EPOCH), None);
}

#[test]
fn the_registry_s_own_words_are_quoted_without_control_characters() {
    let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m access\nhere","detail":[1]},{"code":"X"}]}"#;
    assert_eq!(message(body).as_deref(), Some("DENIED no [31m access here"));
    assert_eq!(message(br#"{"errors":[]}"#), None);
    assert_eq!(message(b"<html>"), None);
    let long = format!(r#"{{"errors":[{{"code":"A","message":"{}"}}]}}"#, "x".repeat(1000));
    assert_eq!(message(long.as_bytes()).unwrap().len(), MAX_MESSAGE_CHARACTERS);
}

#[test]
fn what_was_tried_is_shown_without_signatures() {
    let url = |text| Url::parse(text).unwrap();
    let mut tried = Tried::new(Method::GET, &url("https://a.example/v2/x?ns=1"));
    assert_eq!(tried.to_string(), "GET https://a.example/v2/x");
    tried.at = url("https://cdn.example/y?sig=secret");
    assert_eq!(tried.to_string(), "GET https://a.example/v2/x (redirected to https://cdn.example/y)");
    assert!(!tried.is_at_home());
}

proptest! {
    #[test]
    fn no_retry_after_panics(value in "[ -~]{0,40}") {
        let _ = wait(&value);
    }
}
