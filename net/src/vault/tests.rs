use super::*;

const SECRET: &[u8] = b"Bearer very-secret-token";

#[test]
fn equal_secrets_have_one_identifier_and_different_ones_have_two() {
    let vault = Vault::new();
    let first = vault.insert(SECRET).unwrap();
    assert_eq!(vault.clone().insert(SECRET), Ok(first));
    let other = vault.insert(b"Basic dXNlcjpwYXNz").unwrap();
    assert_ne!(other, first);
    assert_eq!(vault.secret(first).unwrap().header().as_bytes(), SECRET);
    assert_eq!(vault.secret(first).unwrap().scheme(), Scheme::Bearer);
    assert_eq!(vault.secret(other).unwrap().scheme(), Scheme::Basic);
}

#[test]
fn nothing_prints_a_secret() {
    let vault = Vault::new();
    let id = vault.insert(SECRET).unwrap();
    let secret = vault.secret(id).unwrap();
    for text in [format!("{vault:?}"), format!("{secret:?}"), format!("{:?}", secret.header())] {
        assert!(!text.contains("very-secret"), "{text}");
    }
    for unusable in [&b"very-secret"[..], b"Digest very-secret", b"Bearer very-secret\n", b"Basic "] {
        let error = vault.insert(unusable).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("very-secret"), "{error}");
    }
}

#[test]
fn a_secret_of_64_kib_is_kept_and_a_longer_one_is_refused() {
    let vault = Vault::new();
    let mut secret = b"Bearer ".to_vec();
    secret.resize(MAX_SECRET_BYTES, b'x');
    assert!(vault.insert(&secret).is_ok());
    secret.push(b'x');
    assert_eq!(vault.insert(&secret), Err(VaultError::TooLong { bytes: MAX_SECRET_BYTES + 1 }));
}

#[test]
fn a_forgotten_secret_is_gone_after_the_grace_and_its_identifier_is_not_used_again() {
    let vault = Vault::new();
    let start = Instant::now();
    let first = vault.insert_at(start, SECRET).unwrap();
    vault.forget_at(start, first);
    assert_eq!(vault.secret_at(start + GRACE, first), None);
    assert!(vault.is_empty());
    assert_ne!(vault.insert_at(start + GRACE, SECRET).unwrap(), first);
}

#[test]
fn forgetting_does_not_take_a_secret_from_a_request_that_came_in_that_moment() {
    let vault = Vault::new();
    let start = Instant::now();
    let id = vault.insert_at(start, SECRET).unwrap();
    assert_eq!(vault.insert_at(start, SECRET), Ok(id), "a second request, which the core has not seen");
    vault.forget_at(start, id);
    assert!(vault.secret_at(start + GRACE / 2, id).is_some(), "the core uses it for the second request");
    assert!(vault.secret_at(start + GRACE * 2, id).is_some(), "used means wanted again");
    vault.forget_at(start + GRACE * 2, id);
    assert_eq!(vault.secret_at(start + GRACE * 3, id), None);
}

#[test]
fn a_full_vault_drops_the_forgotten_and_then_the_least_recently_used() {
    let vault = Vault::new();
    let secret = |number: usize| format!("Bearer {number}").into_bytes();
    let ids: Vec<CredentialId> = (0..MAX_CREDENTIALS).map(|number| vault.insert(&secret(number)).unwrap()).collect();
    assert!(vault.secret(ids[0]).is_some(), "the oldest is used again");
    vault.forget(ids[7]);
    vault.insert(b"Bearer one-more").unwrap();
    vault.insert(b"Bearer two-more").unwrap();
    assert_eq!(vault.len(), MAX_CREDENTIALS);
    assert!(vault.secret(ids[0]).is_some());
    assert_eq!((vault.secret(ids[7]), vault.secret(ids[1])), (None, None));
    assert!(vault.secret(ids[2]).is_some());
}

#[test]
fn large_secrets_do_not_take_more_memory_than_allowed() {
    let vault = Vault::new();
    for number in 0..2 * MAX_TOTAL_BYTES / MAX_SECRET_BYTES {
        let mut secret = format!("Bearer {number} ").into_bytes();
        secret.resize(MAX_SECRET_BYTES, b'x');
        vault.insert(&secret).unwrap();
    }
    assert_eq!(vault.len(), MAX_TOTAL_BYTES / MAX_SECRET_BYTES);
    assert!(vault.lock().total_bytes <= MAX_TOTAL_BYTES);
    let inner = vault.lock();
    assert_eq!(inner.identifiers.len(), inner.entries.len());
}
