//! Proof of who this program is by a signature instead of a secret (RFC 7523), with ring, which TLS has brought already.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use rmcp::transport::auth::{AuthError, AuthorizationMetadata, OAuthTokenResponse, StoredCredentials};
use serde_json::{Value, json};

use super::{OAuthConfig, reach};

/// How long an assertion is good for.
const ASSERTION_SECONDS: u64 = 300;

/// Longest wait for the authorization server.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Largest answer of the authorization server, and largest file with a key.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// A private key, and the name of what it signs with.
enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// Gets a token for the program itself, which signs that it is `client_id`.
pub(super) async fn exchange(
    config: &OAuthConfig,
    resource: &str,
    metadata: &AuthorizationMetadata,
    scopes: &[String],
) -> Result<StoredCredentials, AuthError> {
    let client_id = config.client_id.as_deref().unwrap_or_default();
    // The issuer, and not the address of the token endpoint: one server's assertion is worth nothing at another.
    let audience = metadata.issuer.as_deref().ok_or_else(|| failed("the authorization server has no issuer"))?;
    let assertion = Key::read(config)?.assertion(client_id, audience)?;
    let scope = scopes.join(" ");
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", &assertion),
        ("resource", resource),
    ];
    if !scope.is_empty() {
        form.push(("scope", &scope));
    }
    let answer = post(&metadata.token_endpoint, &form, config, resource).await?;
    let response: OAuthTokenResponse = serde_json::from_slice(&answer).map_err(|error| {
        failed(&format!("the answer is no token: line {}, column {}", error.line(), error.column()))
    })?;
    let granted = serde_json::to_value(&response)
        .ok()
        .and_then(|response| Some(response.get("scope")?.as_str()?.split_whitespace().map(str::to_owned).collect()));
    Ok(StoredCredentials::new(
        client_id.to_owned(),
        Some(response),
        granted.unwrap_or_else(|| scopes.to_vec()),
        Some(now()),
    )
    .with_issuer(metadata.issuer.clone()))
}

/// Posts a form to the authorization server of `resource`, following no redirect, and returns its answer.
pub(super) async fn post(
    endpoint: &str,
    form: &[(&str, &str)],
    config: &OAuthConfig,
    resource: &str,
) -> Result<Vec<u8>, AuthError> {
    if !reach::may_send(endpoint, resource, config.allow_private_addresses) {
        let endpoint = super::said(endpoint);
        return Err(failed(&format!("no secret may be sent to `{endpoint}` for this server")));
    }
    let mut url = Url::parse("form:").map_err(|error| failed(&error.to_string()))?;
    url.query_pairs_mut().extend_pairs(form);
    super::install_tls();
    let client = reqwest::Client::builder().redirect(Policy::none()).timeout(ANSWER_MAX).build()?;
    let request = client
        .post(endpoint)
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(http::header::ACCEPT, "application/json")
        .body(url.query().unwrap_or_default().to_owned());
    let response = request.send().await?;
    let status = response.status();
    let answer = read(response).await?;
    if status.is_success() {
        return Ok(answer);
    }
    let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let (code, text) = (said["error"].as_str().unwrap_or_default(), said["error_description"].as_str());
    Err(failed(&format!("HTTP {status} {code} {}", text.unwrap_or_default())))
}

async fn read(mut response: Response) -> Result<Vec<u8>, AuthError> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        answer.extend_from_slice(&chunk);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(failed("the answer is larger than 1 MiB"));
        }
    }
    Ok(answer)
}

impl Key {
    fn read(config: &OAuthConfig) -> Result<Self, AuthError> {
        use std::io::Read;
        let path = config.private_key.as_deref().unwrap_or_else(|| std::path::Path::new(""));
        let unreadable = |error: &dyn std::fmt::Display| failed(&format!("cannot read {}: {error}", path.display()));
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
        file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
        Self::parse(&text).ok_or_else(|| {
            failed(&format!("{} holds no private key (PKCS #8 PEM; P-256, P-384, Ed25519 or RSA)", path.display()))
        })
    }

    fn parse(pem: &str) -> Option<Self> {
        let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let key = BASE64_STANDARD.decode(body).ok()?;
        let random = SystemRandom::new();
        let elliptic = |curve| EcdsaKeyPair::from_pkcs8(curve, &key, &random).ok();
        elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map(Self::P256)
            .or_else(|| elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING).map(Self::P384))
            .or_else(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key).ok().map(Self::Ed25519))
            .or_else(|| RsaKeyPair::from_pkcs8(&key).ok().map(Self::Rsa))
    }

    fn assertion(&self, client_id: &str, audience: &str) -> Result<String, AuthError> {
        let now = now();
        let header = json!({ "alg": self.algorithm(), "typ": "client-authentication+jwt" });
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": uuid::Uuid::now_v7().to_string(),
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.sign(message.as_bytes()).map_err(|_| failed("the key does not sign"))?;
        Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Ed25519(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::P256(key) | Self::P384(key) => {
                key.sign(&random, message).map(|signature| signature.as_ref().to_vec())
            }
            Self::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
        }
    }
}

fn failed(reason: &str) -> AuthError {
    AuthError::ClientCredentialsError(super::said(reason))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, UnparsedPublicKey};

    use super::*;

    #[test]
    fn assertion_says_who_to_whom_and_is_signed() {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let body = BASE64_STANDARD.encode(made.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let key = Key::parse(&pem).unwrap();
        let assertion = key.assertion("me", "https://as.example").unwrap();
        let parts: Vec<&str> = assertion.split('.').collect();
        let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("me"), &json!("https://as.example")));
        let Key::P256(pair) = &key else { panic!("{}", key.algorithm()) };
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        let signed = format!("{}.{}", parts[0], parts[1]);
        public.verify(signed.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
        assert!(Key::parse("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_none());
    }

    #[tokio::test]
    async fn a_server_elsewhere_has_nothing_posted_to_this_machine() {
        let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/token", service.local_addr().unwrap());
        let config = OAuthConfig::default();
        let post = |resource: &'static str| post(&endpoint, &[("a", "b")], &config, resource);
        let refused = tokio::time::timeout(Duration::from_secs(5), post("https://mcp.example/mcp")).await;
        let refused = refused.expect("it was sent there").unwrap_err().to_string();
        assert!(refused.contains("no secret may be sent"), "{refused}");
        let here = async {
            // The first that comes is that of the server of this machine.
            let (mut connection, _) = service.accept().await.unwrap();
            let mut asked = [0; 4];
            tokio::io::AsyncReadExt::read_exact(&mut connection, &mut asked).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(
                &mut connection,
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
            )
            .await
            .unwrap();
            // Kept until all that was sent has been read.
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut Vec::new()).await;
            asked
        };
        let (answer, asked) = tokio::join!(post("http://127.0.0.1:1/mcp"), here);
        assert_eq!((answer.unwrap(), &asked), (b"{}".to_vec(), b"POST"));
    }
}
