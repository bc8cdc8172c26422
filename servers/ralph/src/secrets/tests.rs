use proptest::prelude::*;

use super::*;

/// A token as a provider makes them, put together here so that this file holds none.
fn token() -> String {
    ["ghp_", "x7Kq2mZr8LpW4tYb7NcJ1sHd6GfA3eUoR5iT"].concat()
}

#[test]
fn secret_is_masked_and_told_by_its_fingerprint() {
    let text = format!("token = '{}'\n", token());
    let found = scan(text.as_bytes());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].rule, found[0].masked.as_str()), ("github_token", "ghp_****"));
    assert_eq!(found[0].fingerprint.len(), 12);
    assert_eq!(found[0].fingerprint, ContentHash::of(token().as_bytes()).to_string()[..12]);
    assert_eq!(mask(&text), "token = '****'\n");
}

#[test]
fn every_pattern_compiles() {
    let compiled = COMPILED.as_ref().unwrap();
    for (pattern, regex) in PATTERNS.iter().zip(&compiled.regexes) {
        assert!(regex.is_some(), "{}", pattern.regex);
    }
}

#[test]
fn many_secrets_are_bounded() {
    let text = format!("'{}'\n", token()).repeat(2_000);
    assert!(scan(text.as_bytes()).len() <= SECRETS_MAX);
}

#[test]
fn entropy_is_that_of_the_formula() {
    assert_eq!(entropy_tenths(b"aaaaaaaa"), 0);
    assert_eq!(entropy_tenths(b"abababab"), 10);
    assert_eq!(entropy_tenths(b"abcdefgh"), 30);
}

proptest! {
    #[test]
    fn any_bytes_are_scanned(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for secret in scan(&bytes) {
            prop_assert!(secret.start < secret.end && secret.end <= bytes.len());
        }
    }

    #[test]
    fn masked_text_has_no_secret_left(before in "[a-z =\"']{0,40}", after in "[\"' ;\n][a-z =]{0,40}") {
        let masked = mask(&format!("{before} '{}'{after}", token()));
        prop_assert!(!masked.contains(&token()));
    }
}
