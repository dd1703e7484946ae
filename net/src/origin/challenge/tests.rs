use proptest::prelude::*;

use super::*;

fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
    Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
}

#[test]
fn the_challenge_of_docker_hub_is_understood() {
    let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#;
    let expected =
        bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:library/alpine:pull"));
    assert_eq!(parse([header]), [expected]);
}

#[test]
fn commas_and_escapes_in_quoted_strings_belong_to_the_value() {
    let header = r#"Bearer realm="https://a/token?x=\"1\"", scope="repository:a:pull,push repository:b:pull""#;
    let expected = bearer("https://a/token?x=\"1\"", None, Some("repository:a:pull,push repository:b:pull"));
    assert_eq!(parse([header]), [expected]);
}

#[test]
fn several_challenges_in_one_header_or_in_several_are_all_found() {
    let token = bearer("https://a/t", Some("s"), None);
    for headers in [
        vec![r#"Basic realm="x, y", Bearer realm="https://a/t",service=s"#],
        vec![r#"Negotiate"#, r#"Basic realm="x""#, r#"bearer service=s, realm=https://a/t"#],
        vec![r#"Negotiate abc==, Basic, ,BEARER Realm = "https://a/t" , Service = "s""#],
        vec![r#"Digest realm="d", nonce="Bearer realm=evil", Basic realm=x, Bearer realm="https://a/t" service="s""#],
    ] {
        assert_eq!(parse(headers.clone()), [Challenge::Basic, token.clone()], "{headers:?}");
    }
}

#[test]
fn what_cannot_be_answered_is_left_out() {
    for header in ["", ",,,", "=", "Bearer", r#"Bearer service="s""#, "Negotiate", r#"realm="https://a/t""#, "\"\\"] {
        assert_eq!(parse([header]), [], "{header}");
    }
}

#[test]
fn a_missing_closing_quote_ends_the_value_with_the_header() {
    assert_eq!(parse([r#"Bearer realm="https://a/t"#]), [bearer("https://a/t", None, None)]);
}

proptest! {
    #[test]
    fn no_header_makes_the_parser_panic_or_hang(header in r#"([ -~]|Basic|Bearer|realm=|"|\\|,){0,40}"#) {
        let _ = parse([header.as_str()]);
    }

    #[test]
    fn any_quoted_value_is_read_back(realm in "[ -~]{1,30}", service in "[ -~]{0,30}") {
        let quote = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
        let header = format!(r#"Bearer realm="{}",service="{}""#, quote(&realm), quote(&service));
        prop_assert_eq!(parse([header.as_str()]), [bearer(&realm, Some(&service), None)]);
    }
}
