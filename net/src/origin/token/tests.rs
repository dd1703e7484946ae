use super::*;

fn key(scope: &str, holder: Holder) -> TokenKey {
    TokenKey {
        registry: "registry.example".into(),
        realm: "https://a.example/token".into(),
        service: None,
        scope: scope.into(),
        holder,
    }
}

fn issued(token: &str) -> Issued {
    Issued::read(format!(r#"{{"token":"{token}","expires_in":90}}"#).as_bytes()).unwrap()
}

#[test]
fn lifetimes_follow_the_service_within_bounds() {
    for (expires_in, seconds) in [
        (None, 300),
        (Some(0.0), 300),
        (Some(-5.0), 300),
        (Some(10.0), 60),
        (Some(90.0), 60),
        (Some(300.0), 270),
        (Some(1e300), 3600),
        (Some(f64::NAN), 300),
    ] {
        assert_eq!(lifetime(expires_in), Duration::from_secs(seconds), "{expires_in:?}");
    }
}

#[test]
fn both_spellings_of_the_token_are_read_and_the_token_never_shows() {
    for body in [r#"{"token":"abc"}"#, r#"{"access_token":"abc"}"#, r#"{"token":"","access_token":"abc","x":1}"#] {
        let issued = Issued::read(body.as_bytes()).unwrap();
        assert_eq!(issued.authorization.as_bytes(), b"Bearer abc");
        assert!(!format!("{issued:?}").contains("abc"));
    }
    for body in ["{}", r#"{"token":null}"#, r#"{"token":["abc"]}"#, r#"{"token":"abc\n"}"#, "abc", ""] {
        let error = Issued::read(body.as_bytes()).unwrap_err();
        assert!(!error.contains("abc"), "{error}");
    }
}

#[test]
fn a_token_is_found_until_it_expires_and_only_for_its_own_key() {
    let tokens = Tokens::default();
    let now = Instant::now();
    let mine = key("repository:a:pull", Holder::Requester(CredentialId(1)));
    tokens.put(mine.clone(), &issued("abc"), now);
    assert!(tokens.get(&mine, now + Duration::from_secs(59)).is_some());
    assert!(tokens.get(&mine, now + Duration::from_secs(60)).is_none());
    for other in [
        key("repository:b:pull", Holder::Requester(CredentialId(1))),
        key("repository:a:pull", Holder::Requester(CredentialId(2))),
        key("repository:a:pull", Holder::Node),
        key("repository:a:pull", Holder::Anonymous),
    ] {
        assert!(tokens.get(&other, now).is_none(), "{other:?}");
    }
}

#[test]
fn a_rejected_token_goes_and_a_newer_one_stays() {
    let tokens = Tokens::default();
    let now = Instant::now();
    let key = key("repository:a:pull", Holder::Node);
    let (old, new) = (issued("old"), issued("new"));
    tokens.put(key.clone(), &old, now);
    tokens.put(key.clone(), &new, now);
    tokens.invalidate(&key, &old.authorization);
    assert_eq!(tokens.get(&key, now), Some(new.authorization.clone()));
    tokens.invalidate(&key, &new.authorization);
    assert_eq!(tokens.get(&key, now), None);
}

#[test]
fn forgetting_a_credential_drops_its_tokens_only() {
    let tokens = Tokens::default();
    let now = Instant::now();
    let (gone, kept) = (key("a", Holder::Requester(CredentialId(1))), key("a", Holder::Requester(CredentialId(2))));
    tokens.put(gone.clone(), &issued("a"), now);
    tokens.put(kept.clone(), &issued("b"), now);
    tokens.forget(CredentialId(1));
    assert!(tokens.get(&gone, now).is_none() && tokens.get(&kept, now).is_some());
}

#[test]
fn what_is_remembered_is_bounded_and_the_oldest_goes() {
    let tokens = Tokens::default();
    let now = Instant::now();
    for number in 0..=MAX_REMEMBERED {
        let later = now + Duration::from_secs(number as u64);
        tokens.put(key(&number.to_string(), Holder::Anonymous), &issued("x"), later);
        tokens.remember(("r".into(), number.to_string().into()), Challenge::Basic);
    }
    assert_eq!(tokens.lock().tokens.len(), MAX_REMEMBERED);
    assert!(tokens.get(&key("0", Holder::Anonymous), now).is_none());
    assert!(tokens.get(&key("1", Holder::Anonymous), now).is_some());
    assert_eq!(tokens.challenge(&("r".into(), "0".into())), None);
    assert_eq!(tokens.challenge(&("r".into(), "1".into())), Some(Challenge::Basic));
}

#[test]
fn a_gate_lives_as_long_as_somebody_holds_it() {
    let tokens = Tokens::default();
    let first = tokens.gate(&key("a", Holder::Node));
    assert!(Arc::ptr_eq(&first, &tokens.gate(&key("a", Holder::Node))));
    assert!(!Arc::ptr_eq(&first, &tokens.gate(&key("b", Holder::Node))));
    drop(first);
    tokens.gate(&key("c", Holder::Node));
    assert_eq!(tokens.lock().gates.len(), 1);
}
