//! The login at one server in use: put into every request to it, renewed when it ends, asked for more where the program
//! may.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::auth::{
    AuthError, AuthorizationMetadataSource, CredentialStore, InMemoryCredentialStore, OAuthClientConfig,
};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use tokio::sync::Mutex as AsyncMutex;
use tollgate_shared::state_dir::StateDir;

use super::config::{Grant, OAuthConfig};
use super::store::{Client, Login, LoginFile};
use super::{Refusal, assertion, install_tls, manager, unsafe_endpoint};

/// Most redirects that a request without a login follows.
const REDIRECTS_MAX: usize = 10;

/// Most scopes that are asked for one after another; a server that wants more is not going to be content.
const WANTED_SCOPES_MAX: usize = 100;

/// The login at one server.
pub struct Access {
    pub(super) server: String,
    pub(super) url: String,
    pub(super) config: OAuthConfig,
    pub(super) file: LoginFile,
    /// One renewal at a time; the lock of the file is between processes.
    renewing: AsyncMutex<()>,
    refusal: Mutex<Option<Refusal>>,
}

/// The HTTP client of a connection that may need a login.
#[derive(Clone)]
pub(crate) struct Authorized {
    access: Arc<Access>,
    /// Follows no redirect: what it sends is for one address.
    with_token: reqwest::Client,
    without_token: reqwest::Client,
}

type Result<T> = std::result::Result<T, StreamableHttpError<reqwest::Error>>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl Access {
    /// Returns the login at the server of this name, at this address; there need not be one yet.
    pub(crate) fn new(server: &str, url: &str, config: OAuthConfig, state_dir: &StateDir) -> Arc<Self> {
        Arc::new(Self {
            server: server.to_owned(),
            url: url.to_owned(),
            config,
            file: LoginFile::new(state_dir, server),
            renewing: AsyncMutex::default(),
            refusal: Mutex::default(),
        })
    }

    /// Returns why the server refused the last request, if it did for want of a login.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the HTTP client of a connection.
    pub(crate) fn client(self: &Arc<Self>) -> std::result::Result<Authorized, reqwest::Error> {
        install_tls();
        // As rmcp's own: a pool of idle connections stalls.
        let client = |policy| reqwest::Client::builder().pool_max_idle_per_host(0).redirect(policy).build();
        Ok(Authorized {
            access: Arc::clone(self),
            with_token: client(Policy::none())?,
            without_token: client(same_origin())?,
        })
    }

    /// Returns the login, if there is one for this address.
    pub(super) fn login(&self) -> std::result::Result<Option<Login>, AuthError> {
        Ok(self.file.read()?.filter(|login| login.url == self.url))
    }

    /// Returns a token that is good for a while, if there is one.
    async fn token(&self) -> std::result::Result<Option<String>, AuthError> {
        match self.login()? {
            Some(login) if login.lasts() => Ok(login.token()),
            Some(login) => self.renewed(login.token().as_deref()).await,
            None if self.config.grant == Grant::ClientCredentials => self.renewed(None).await,
            None => Ok(None),
        }
    }

    /// Returns another token than the one that ended or was refused, if there is one.
    async fn renewed(&self, ended: Option<&str>) -> std::result::Result<Option<String>, AuthError> {
        let _alone = self.renewing.lock().await;
        let login = self.login()?;
        if let Some(login) = &login
            && login.lasts()
            && login.token().as_deref() != ended
        {
            return Ok(login.token());
        }
        match (self.config.grant, login) {
            (Grant::ClientCredentials, _) => self.granted(&self.config.scopes).await.map(Some),
            (Grant::AuthorizationCode, Some(login)) if login.refresh_token().is_some() => self.refreshed(&login).await,
            (Grant::AuthorizationCode, _) => Ok(None),
        }
    }

    /// Renews the login of a person.
    async fn refreshed(&self, login: &Login) -> std::result::Result<Option<String>, AuthError> {
        let mut manager = manager(&self.url, &self.config).await?;
        manager.set_credential_store(self.file.clone());
        // Asked anew each time: what one authorization server gave is not told to another.
        let found = manager.resolve_metadata().await?;
        if found.source == AuthorizationMetadataSource::LegacyEndpointFallback && login.metadata.issuer.is_some() {
            // It says nothing now: that is no reason to drop a login.
            return Err(AuthError::MetadataError("the authorization server is not told now".to_owned()));
        }
        let metadata = found.metadata;
        if metadata.issuer != login.metadata.issuer || metadata.token_endpoint != login.metadata.token_endpoint {
            tracing::warn!(server = self.server, "the authorization server is another one; the login is dropped");
            self.file.clear().await?;
            return Ok(None);
        }
        manager.set_metadata(metadata);
        let mut client = OAuthClientConfig::new(&login.client.id, &login.client.redirect_uri);
        client.client_secret = login.client.secret.as_ref().map(|secret| secret.0.clone());
        manager.configure_client(client)?;
        match manager.refresh_token().await {
            Ok(_) => Ok(self.login()?.and_then(|login| login.token())),
            Err(AuthError::AuthorizationRequired | AuthError::TokenRefreshRejected(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gets a token for the program itself.
    pub(super) async fn granted(&self, scopes: &[String]) -> std::result::Result<String, AuthError> {
        let mut manager = manager(&self.url, &self.config).await?;
        let metadata = manager.resolve_metadata().await?.metadata;
        if let Some(endpoint) = unsafe_endpoint(&metadata) {
            return Err(AuthError::MetadataError(format!("the authorization server names `{endpoint}`, not https://")));
        }
        manager.set_metadata(metadata.clone());
        let credentials = if self.config.private_key.is_some() {
            assertion::exchange(&self.config, &self.url, &metadata, scopes).await?
        } else {
            let config = rmcp::transport::auth::ClientCredentialsConfig::ClientSecret {
                client_id: self.config.client_id.clone().unwrap_or_default(),
                client_secret: self.config.client_secret.as_ref().map(|it| it.0.clone()).unwrap_or_default(),
                scopes: scopes.to_vec(),
                resource: Some(self.url.clone()),
            };
            manager.validate_client_credentials_metadata(&config)?;
            let kept = InMemoryCredentialStore::new();
            manager.set_credential_store(kept.clone());
            manager.configure_client_credentials(&config)?;
            manager.exchange_client_credentials(&config).await?;
            kept.load().await?.ok_or(AuthError::AuthorizationRequired)?
        };
        let login = Login {
            url: self.url.clone(),
            resource: self.url.clone(),
            metadata,
            client: Client {
                id: self.config.client_id.clone().unwrap_or_default(),
                secret: None,
                redirect_uri: String::new(),
            },
            credentials: Some(credentials),
            wanted_scopes: Vec::new(),
        };
        let _alone = self.file.alone().await?;
        self.file.write(&login)?;
        login.token().ok_or(AuthError::AuthorizationRequired)
    }

    /// Returns a token that may do more, where the program can get one by itself; else the next login asks for it.
    async fn widened(&self, required: Option<&str>) -> std::result::Result<Option<String>, AuthError> {
        let wanted: Vec<String> =
            required.unwrap_or_default().split_whitespace().take(WANTED_SCOPES_MAX).map(str::to_owned).collect();
        if self.config.grant == Grant::ClientCredentials && !wanted.is_empty() {
            // Where the operator says what it may do, no server says more.
            let listed = &self.config.scopes;
            if !listed.is_empty() && wanted.iter().any(|scope| !listed.contains(scope)) {
                return Ok(None);
            }
            let _alone = self.renewing.lock().await;
            let mut scopes = self.config.scopes.clone();
            scopes.extend(self.login()?.iter().flat_map(|login| login.scopes().to_vec()));
            scopes.extend(wanted);
            return self.granted(&without_doubles(scopes)).await.map(Some);
        }
        self.file
            .change(|login| {
                login.wanted_scopes.extend(wanted);
                login.wanted_scopes = without_doubles(std::mem::take(&mut login.wanted_scopes));
                login.wanted_scopes.truncate(WANTED_SCOPES_MAX);
            })
            .await?;
        Ok(None)
    }

    fn note<T>(&self, result: &Result<T>) {
        let refusal = result.as_ref().err().and_then(|error| Refusal::of(error));
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Access").field("server", &self.server).field("url", &self.url).finish_non_exhaustive()
    }
}

/// Returns each of `scopes` once, in the order in which they came.
pub(super) fn without_doubles(scopes: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for scope in scopes {
        if !kept.contains(&scope) {
            kept.push(scope);
        }
    }
    kept
}

/// Redirects that keep the message and the address's owner are followed, as rmcp's own client does.
fn same_origin() -> Policy {
    Policy::custom(|attempt| {
        let keeps_message = matches!(attempt.status().as_u16(), 307 | 308);
        let same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
        if keeps_message && same && attempt.previous().len() <= REDIRECTS_MAX {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

impl Authorized {
    /// Sends a request with the login, and once more with a new one where the server wants that.
    async fn send<T, Sent: Future<Output = Result<T>>>(
        &self,
        request: impl Fn(reqwest::Client, Option<String>) -> Sent,
    ) -> Result<T> {
        let result = self.send_noted(request).await;
        self.access.note(&result);
        result
    }

    async fn send_noted<T, Sent: Future<Output = Result<T>>>(
        &self,
        request: impl Fn(reqwest::Client, Option<String>) -> Sent,
    ) -> Result<T> {
        let Some(token) = self.access.token().await? else {
            return request(self.without_token.clone(), None).await;
        };
        let refused = match request(self.with_token.clone(), Some(token.clone())).await {
            Err(refused @ (StreamableHttpError::AuthRequired(_) | StreamableHttpError::InsufficientScope(_))) => {
                refused
            }
            result => return result,
        };
        let better = match &refused {
            StreamableHttpError::InsufficientScope(error) => {
                self.access.widened(error.required_scope.as_deref()).await?
            }
            _ => self.access.renewed(Some(&token)).await?,
        };
        match better {
            Some(better) => request(self.with_token.clone(), Some(better)).await,
            None => Err(refused),
        }
    }
}

impl StreamableHttpClient for Authorized {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse> {
        self.send(|client, token| {
            let (uri, message, session, headers) = (uri.clone(), message.clone(), session_id.clone(), headers.clone());
            async move { client.post_message(uri, message, session, token, headers).await }
        })
        .await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
        size: usize,
    ) -> Result<StreamableHttpPostResponse> {
        self.send(|client, token| {
            let (uri, message, session, headers) = (uri.clone(), message.clone(), session_id.clone(), headers.clone());
            async move {
                client.post_message_with_max_sse_event_size(uri, message, session, token, headers, size).await
            }
        })
        .await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<()> {
        self.send(|client, token| {
            let (uri, session, headers) = (uri.clone(), session_id.clone(), headers.clone());
            async move { client.delete_session(uri, session, token, headers).await }
        })
        .await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<BoxStream<'static, std::result::Result<sse_stream::Sse, SseError>>> {
        self.send(|client, token| {
            let (uri, session, headers) = (uri.clone(), session_id.clone(), headers.clone());
            let last = last_event_id.clone();
            async move { client.get_stream(uri, session, last, token, headers).await }
        })
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        headers: Headers,
        size: usize,
    ) -> Result<BoxStream<'static, std::result::Result<sse_stream::Sse, SseError>>> {
        self.send(|client, token| {
            let (uri, session, headers) = (uri.clone(), session_id.clone(), headers.clone());
            let last = last_event_id.clone();
            async move { client.get_stream_with_max_sse_event_size(uri, session, last, token, headers, size).await }
        })
        .await
    }
}
