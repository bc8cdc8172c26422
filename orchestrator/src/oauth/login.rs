//! `orchestrator login` and `logout`: a person lets this program use a server, and takes that back.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use reqwest::Url;
use rmcp::model::ProtocolVersion;
use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, AuthorizationMetadataSource, CredentialStore,
    InMemoryCredentialStore, OAuthClientConfig,
};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tokio::time::timeout;

use super::access::{Access, without_doubles};
use super::callback::Callback;
use super::config::{Grant, Secret};
use super::store::{Client, Login};
use super::{CLIENT_NAME, assertion, manager, reason, unsafe_endpoint};

/// Longest wait for the server to say which login it wants.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// How a person logs in.
pub(crate) struct LoginOptions<'a> {
    /// Shows the address of the page where the person logs in.
    pub(crate) show: &'a dyn Fn(&str),
    /// Whether a browser is opened there.
    pub(crate) opens_browser: bool,
    /// How long the person may take.
    pub(crate) patience: Duration,
    /// What is sent to the server with every request.
    pub(crate) headers: HashMap<http::HeaderName, http::HeaderValue>,
}

/// Logs in at a server and keeps the login; returns what it may do.
pub(crate) async fn log_in(access: &Access, options: LoginOptions<'_>) -> anyhow::Result<Vec<String>> {
    if access.config.grant == Grant::ClientCredentials {
        access.granted(&access.config.scopes).await.map_err(|error| anyhow!("no login: {}", reason(&error)))?;
    } else {
        in_browser(access, options).await?;
    }
    let login = access.login()?.context("the login is gone again")?;
    Ok(login.scopes().to_vec())
}

async fn in_browser(access: &Access, options: LoginOptions<'_>) -> anyhow::Result<()> {
    let before = access.login()?;
    let mut manager = manager(&access.url, &access.config).await?;
    let metadata = discover(access, &mut manager, options.headers).await?;
    let scopes = scopes(access, &manager, before.as_ref(), &metadata).await;
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let callback = Callback::listen(access.config.redirect_port).await?;
    let client = introduce(access, &mut manager, &metadata, &scopes, &callback.redirect_uri()).await?;
    let kept = InMemoryCredentialStore::new();
    manager.set_credential_store(kept.clone());
    let page = manager.get_authorization_url(&scopes).await.map_err(|error| failed(&error))?;
    let asked = |name: &str| {
        let page = Url::parse(&page).ok()?;
        page.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let (state, resource) = (asked("state").context("no state")?, asked("resource").context("no resource")?);
    (options.show)(&page);
    if options.opens_browser {
        open_browser(&page);
    }
    let brought = timeout(options.patience, callback.wait(&state)).await.map_err(|_| {
        anyhow!("nobody logged in within {} s; run it again, or with a longer `--timeout`", options.patience.as_secs())
    })??;
    manager
        .exchange_code_for_token_with_issuer(&brought.code, &state, brought.issuer.as_deref())
        .await
        .map_err(|error| failed(&error))?;
    let credentials = kept.load().await?.context("no token came")?;
    let url = access.url.clone();
    let login = Login { url, resource, metadata, client, credentials: Some(credentials), wanted_scopes: Vec::new() };
    let _alone = access.file.alone().await?;
    Ok(access.file.write(&login)?)
}

/// Finds the authorization server of the server: as it says when it refuses a request, else as it publishes.
async fn discover(
    access: &Access,
    manager: &mut AuthorizationManager,
    headers: HashMap<http::HeaderName, http::HeaderValue>,
) -> anyhow::Result<AuthorizationMetadata> {
    let challenge = challenge(access, headers).await;
    let found = manager.resolve_metadata_from_challenge(challenge.as_deref()).await.map_err(|error| failed(&error))?;
    let guessed = found.source == AuthorizationMetadataSource::LegacyEndpointFallback;
    ensure!(!guessed || challenge.is_some(), "{} wants no login, nor says where one is got", access.url);
    if let Some(endpoint) = unsafe_endpoint(&found.metadata) {
        bail!("the authorization server names `{endpoint}`, where others could listen in; nothing was sent there");
    }
    manager.set_metadata(found.metadata.clone());
    Ok(found.metadata)
}

/// Returns what the server says when it is asked without a login.
async fn challenge(access: &Access, headers: HashMap<http::HeaderName, http::HeaderValue>) -> Option<String> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().ok()?;
    let config = StreamableHttpClientTransportConfig::with_uri(access.url.as_str()).custom_headers(headers);
    let transport = StreamableHttpClientTransport::with_client(client, config);
    let newest = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    };
    match timeout(PROBE_MAX, ().serve_with_lifecycle(transport, newest)).await.ok()? {
        Ok(mut service) => {
            let _ = service.close_with_timeout(PROBE_MAX).await;
            None
        }
        Err(error) => error.auth_challenge().map(str::to_owned),
    }
}

/// Returns what to ask for: what the operator says, else what the server says; and what it refused before.
async fn scopes(
    access: &Access,
    manager: &AuthorizationManager,
    before: Option<&Login>,
    metadata: &AuthorizationMetadata,
) -> Vec<String> {
    let mut scopes = access.config.scopes.clone();
    if scopes.is_empty() {
        scopes = manager.select_initial_scopes(&[]).await;
    } else if metadata.scopes_supported.iter().flatten().any(|scope| scope == "offline_access") {
        // Without it some give no way to renew the login.
        scopes.push("offline_access".to_owned());
    }
    if let Some(before) = before.filter(|before| !before.wanted_scopes.is_empty()) {
        scopes.extend(before.scopes().iter().chain(&before.wanted_scopes).cloned());
    }
    without_doubles(scopes)
}

/// Tells the authorization server who this program is: as the operator registered it, by a document of the operator's,
/// or by registering now.
async fn introduce(
    access: &Access,
    manager: &mut AuthorizationManager,
    metadata: &AuthorizationMetadata,
    scopes: &[&str],
    redirect_uri: &str,
) -> anyhow::Result<Client> {
    let config = &access.config;
    let takes_documents = metadata.additional_fields.get("client_id_metadata_document_supported");
    let takes_documents = takes_documents.and_then(serde_json::Value::as_bool).unwrap_or(false);
    let document = config.client_metadata_url.as_ref().filter(|_| takes_documents);
    let client = if let Some(id) = config.client_id.as_ref().or(document) {
        let mut client = OAuthClientConfig::new(id, redirect_uri);
        client.client_secret = config.client_secret.as_ref().map(|secret| secret.0.clone());
        manager.configure_client(client.clone()).map_err(|error| failed(&error))?;
        client
    } else {
        ensure!(
            metadata.registration_endpoint.is_some(),
            "the authorization server lets no program register itself: register one there by hand, with the redirect \
             address http://127.0.0.1:PORT/callback, and set client_id (and redirect_port) in [servers.{}.oauth]",
            access.server
        );
        manager.register_client(CLIENT_NAME, redirect_uri, scopes).await.map_err(|error| failed(&error))?
    };
    Ok(Client { id: client.client_id, secret: client.client_secret.map(Secret), redirect_uri: redirect_uri.to_owned() })
}

/// Opens the person's browser, where there is one; the address is shown in any case.
fn open_browser(page: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some() {
        "xdg-open"
    } else {
        return;
    };
    let mut command = Command::new(program);
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        // Waited for elsewhere, so that it does not stay as a zombie.
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => tracing::debug!(%error, program, "no browser"),
    }
}

/// Ends the login at a server, there too where it can be told; whether there was one.
pub(crate) async fn log_out(access: &Access) -> anyhow::Result<bool> {
    let _alone = access.file.alone().await?;
    if let Ok(Some(login)) = access.file.read() {
        revoke(&login, access).await;
    }
    Ok(access.file.remove()?)
}

async fn revoke(login: &Login, access: &Access) {
    let endpoint = login.metadata.additional_fields.get("revocation_endpoint").and_then(serde_json::Value::as_str);
    let Some(endpoint) = endpoint else { return };
    let Some(token) = login.refresh_token().or_else(|| login.token()) else { return };
    let mut form = vec![("token", token.as_str()), ("client_id", login.client.id.as_str())];
    if let Some(secret) = &login.client.secret {
        form.push(("client_secret", &secret.0));
    }
    if let Err(error) = assertion::post(endpoint, &form, &access.config, &access.url).await {
        tracing::warn!("the authorization server was not told that the login ended: {}", reason(&error));
    }
}

fn failed(error: &AuthError) -> anyhow::Error {
    anyhow!("no login: {}", reason(error))
}
