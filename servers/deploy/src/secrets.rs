//! What the operator took from the environment into the configuration: nothing that is told, logged or kept has it.

use std::fmt;

/// Shorter ones are words that any text may have, and a secret that short is none.
const SECRET_BYTES_MIN: usize = 8;

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// The values of `${NAME}` in the table `[deploy]`.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Takes those of `values` that may be secrets: not the short ones, and not paths, which a reader needs.
    #[must_use]
    pub fn new(values: &[String]) -> Self {
        let mut secrets: Vec<String> =
            values.iter().filter(|value| value.len() >= SECRET_BYTES_MIN && !value.starts_with('/')).cloned().collect();
        // One may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// Returns `text` without them, and without the end of one at its beginning where it was cut there (`…`).
    #[must_use]
    pub fn hide(&self, mut text: String) -> String {
        for secret in &self.0 {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
            if let Some(rest) = text.strip_prefix('…') {
                let ends = secret.char_indices().skip(1).map(|(at, _)| &secret[at..]);
                let end = ends.take_while(|end| end.len() * 2 >= SECRET_BYTES_MIN).find(|end| rest.starts_with(*end));
                if let Some(end) = end {
                    text = format!("…{HIDDEN}{}", &rest[end.len()..]);
                }
            }
        }
        text
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_words_are_not() {
        let secrets =
            Secrets::new(&["hunter2-horse", "hunter2-horse-battery", "prod", "/srv/shop/x"].map(str::to_owned));
        let hidden = |text: &str| secrets.hide(text.to_owned());
        assert_eq!(hidden("a hunter2-horse-battery hunter2-horse b"), "a *** *** b");
        assert_eq!(hidden("prod is in /srv/shop/x"), "prod is in /srv/shop/x");
        assert_eq!(hidden("…r2-horse, and more"), "…***, and more");
        assert_eq!(hidden("…se, and more"), "…se, and more", "too little of it to be of use");
        assert_eq!(format!("{secrets:?}"), "2 secrets");
    }
}
