//! How a login at one server is got.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The table `[servers.<name>.oauth]`. Servers that want a login need no table where they let any program register.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OAuthConfig {
    /// Who logs in: a person, with `orchestrator login NAME`, or this program by itself.
    pub grant: Grant,
    /// The name that the authorization server gave to this program, where the operator registered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The secret beside it, as `${NAME}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Instead of a secret, with `client_credentials`: the file with the private key, in PEM (PKCS #8), that the program
    /// signs with that it is `client_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PathBuf>,
    /// The https address of a client ID metadata document of the operator's, for authorization servers that take it
    /// instead of a registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_metadata_url: Option<String>,
    /// What the login may do; as much as the server says that it takes when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The port on 127.0.0.1 that the browser comes back to, where the registration names one; any free one when left
    /// out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<u16>,
    /// The authorization server may have a private address, such as 10.0.0.9.
    pub allow_private_addresses: bool,
}

/// Who logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// A person, in a browser.
    #[default]
    AuthorizationCode,
    /// The program, with a secret or key of its own.
    ClientCredentials,
}

/// A text that nobody is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl OAuthConfig {
    /// Says what is missing or does not go together.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let by_itself = self.grant == Grant::ClientCredentials;
        match (&self.client_secret, &self.private_key) {
            (Some(_), Some(_)) => Err("`client_secret` and `private_key` are one too many"),
            (None, None) if by_itself => Err("`client_credentials` needs `client_secret` or `private_key`"),
            (_, Some(_)) if !by_itself => Err("`private_key` is for `client_credentials`"),
            (Some(_), None) | (None, Some(_)) if self.client_id.is_none() => Err("`client_id` is missing"),
            _ if self.client_metadata_url.as_ref().is_some_and(|url| !url.starts_with("https://")) => {
                Err("`client_metadata_url` is not https://")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_refused() {
        let check = |text: &str| toml::from_str::<OAuthConfig>(text).unwrap().check();
        for good in [
            "",
            "client_id = 'a'",
            "client_id = 'a'\nclient_secret = 'b'",
            "grant = 'client_credentials'\nclient_id = 'a'\nclient_secret = 'b'",
            "grant = 'client_credentials'\nclient_id = 'a'\nprivate_key = 'k.pem'",
            "client_metadata_url = 'https://a/b.json'",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for wrong in [
            "client_secret = 'b'",
            "grant = 'client_credentials'\nclient_id = 'a'",
            "grant = 'client_credentials'\nclient_secret = 'b'",
            "client_id = 'a'\nprivate_key = 'k.pem'",
            "grant = 'client_credentials'\nclient_id = 'a'\nclient_secret = 'b'\nprivate_key = 'k.pem'",
            "client_metadata_url = 'http://a/b.json'",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        let secret = toml::from_str::<OAuthConfig>("client_secret = 's3cr3t'").unwrap();
        assert!(!format!("{secret:?}").contains("s3cr3t"));
    }
}
