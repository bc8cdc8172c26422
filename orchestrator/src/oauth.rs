//! Logins at remote servers: OAuth 2.1 as the protocol's authorization specification has it, by rmcp.
//!
//! A login is got by `orchestrator login`, kept in the state folder, renewed before it ends, and sent to the one address
//! that it is for.

mod access;
mod assertion;
mod callback;
pub(crate) mod config;
mod login;
mod reach;
mod store;

use std::error::Error;
use std::fmt;

use rmcp::transport::auth::{AuthError, AuthorizationManager, AuthorizationMetadata};
use rmcp::transport::streamable_http_client::{AuthRequiredError, InsufficientScopeError};
use tollgate_shared::error_chain::Chain;

pub use access::Access;
pub use config::OAuthConfig;
pub(crate) use login::{LoginOptions, log_in, log_out};

use crate::config::is_safe_url;

/// What authorization servers and people know this program as.
const CLIENT_NAME: &str = "Tollgate orchestrator";

/// Most characters of what a server says that are passed on.
const SAID_CHARS_MAX: usize = 300;

/// Why a server answers nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It wants a login, and there is none or none that it takes.
    Login,
    /// It wants a login that may do more, and says what.
    Scope(String),
}

impl Refusal {
    /// Returns why a request failed, if it is for want of a login.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<AuthRequiredError>() {
                return Some(Self::Login);
            }
            if let Some(error) = error.downcast_ref::<InsufficientScopeError>() {
                return Some(Self::Scope(said(error.required_scope.as_deref().unwrap_or_default())));
            }
            if matches!(error.downcast_ref::<AuthError>(), Some(AuthError::AuthorizationRequired)) {
                return Some(Self::Login);
            }
            next = error.source();
        }
        None
    }

    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Login => "login_required",
            Self::Scope(_) => "insufficient_scope",
        }
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn hint(&self, server: &str) -> String {
        match self {
            Self::Login => format!("have the operator run `orchestrator login {server}`"),
            Self::Scope(_) => {
                format!("have the operator run `orchestrator login {server}`, which asks for the rest too")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login => write!(formatter, "the server wants a login, and there is none that it takes"),
            Self::Scope(scope) if scope.is_empty() => write!(formatter, "the login is not allowed to do this"),
            Self::Scope(scope) => write!(formatter, "the login is not allowed to do this; it takes `{scope}`"),
        }
    }
}

/// Returns what finds out about, and talks to, the authorization server of `resource`.
async fn manager(resource: &str, config: &OAuthConfig) -> Result<AuthorizationManager, AuthError> {
    install_tls();
    if config.allow_private_addresses {
        AuthorizationManager::new_allowing_private_addresses(resource).await
    } else {
        AuthorizationManager::new(resource).await
    }
}

/// Lets HTTP clients be built, which need to know who does the cryptography.
fn install_tls() {
    // One provider for the whole program; whoever comes second finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Says which of the authorization server's addresses no secret may be sent to.
fn unsafe_endpoint(metadata: &AuthorizationMetadata) -> Option<String> {
    let endpoints = [
        Some(&metadata.authorization_endpoint).filter(|url| !url.is_empty()),
        Some(&metadata.token_endpoint),
        metadata.registration_endpoint.as_ref(),
    ];
    endpoints.into_iter().flatten().find(|url| !is_safe_url(url, true)).map(|url| said(url))
}

/// Returns what another party says, short and without what a terminal would obey.
fn said(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_CHARS_MAX).collect()
}

fn reason(error: &AuthError) -> String {
    said(&Chain(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_only_to_addresses_that_nobody_listens_in_on() {
        let metadata = |token: &str| -> AuthorizationMetadata {
            serde_json::from_value(serde_json::json!({
                "authorization_endpoint": "https://as.example/authorize", "token_endpoint": token,
            }))
            .unwrap()
        };
        assert_eq!(unsafe_endpoint(&metadata("https://as.example/token")), None);
        assert_eq!(unsafe_endpoint(&metadata("http://127.0.0.1:1/token")), None);
        for wrong in ["http://as.example/token", "file:///etc/passwd", "http://127.0.0.1@as.example/token", ""] {
            assert!(unsafe_endpoint(&metadata(wrong)).is_some(), "{wrong}");
        }
    }
}
