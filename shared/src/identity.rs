//! On whose behalf a call is made.
//!
//! Never a tool argument. The orchestrator says it in the request's `_meta` and proves that it is
//! the orchestrator with a secret that it made for the run; otherwise the environment says it;
//! otherwise the client's own name stands.

use hmac::{Hmac, KeyInit, Mac};
use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::refusal::Refusal;

/// The `_meta` key under which the orchestrator names the agent.
pub const IDENTITY_META_KEY: &str = "io.tollgate/identity";

/// The environment variable through which a server learns the secret of the run.
pub const RUN_SECRET_VARIABLE: &str = "TOLLGATE_RUN_SECRET";

/// Longest name that is taken; longer ones are a mistake or an attempt to fill the ledger.
const NAME_BYTES_MAX: usize = 200;

/// Who makes a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    /// `bugfix-1`, or the name of the host's client.
    pub name: String,
    /// `bugfix`, `operator`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// Who makes a call, for which task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub agent: Agent,
    /// For which task.
    pub task_id: Option<String>,
    /// The caller's own identifier of this call.
    pub call_id: Option<String>,
}

/// The secret that the orchestrator shares with the servers it started, for one run.
#[derive(Clone)]
pub struct RunSecret([u8; 32]);

/// An identity as it travels in `_meta`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedIdentity {
    agent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call_id: Option<String>,
    proof: String,
}

impl RunSecret {
    /// Makes a new secret from the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// What the operating system's generator fails with.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads the secret from its hexadecimal form.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Returns the hexadecimal form, for the environment of a child.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Returns `identity` with the proof that the holder of this secret said it.
    #[must_use]
    pub fn sign(&self, identity: &Identity) -> SignedIdentity {
        let mut signed = SignedIdentity {
            agent: identity.agent.name.clone(),
            role: identity.agent.role.clone(),
            task_id: identity.task_id.clone(),
            call_id: identity.call_id.clone(),
            proof: String::new(),
        };
        signed.proof = hex::encode(self.mac(&signed).finalize().into_bytes());
        signed
    }

    fn verify(&self, signed: &SignedIdentity) -> bool {
        hex::decode(&signed.proof).is_ok_and(|proof| self.mac(signed).verify_slice(&proof).is_ok())
    }

    fn mac(&self, signed: &SignedIdentity) -> Hmac<Sha256> {
        // A key of any length is taken, so this cannot fail; an empty key would, if it could, verify nothing.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| Hmac::new(&Default::default()));
        for field in [Some(&signed.agent), signed.role.as_ref(), signed.task_id.as_ref(), signed.call_id.as_ref()] {
            // An absent field is not an empty one.
            mac.update(&[u8::from(field.is_some())]);
            let bytes = field.map_or(&[][..], |text| text.as_bytes());
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        }
        mac
    }
}

/// Where a server looks for the identity of a call; read once, at start.
pub struct IdentitySource {
    secret: Option<RunSecret>,
    fallback: Identity,
}

impl IdentitySource {
    /// Reads `TOLLGATE_RUN_SECRET`, `TOLLGATE_AGENT`, `TOLLGATE_ROLE` and `TOLLGATE_TASK`.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            secret: variable(RUN_SECRET_VARIABLE).as_deref().and_then(RunSecret::from_hex),
            fallback: Identity {
                agent: Agent { name: variable("TOLLGATE_AGENT").unwrap_or_default(), role: variable("TOLLGATE_ROLE") },
                task_id: variable("TOLLGATE_TASK"),
                call_id: None,
            },
        }
    }

    /// Returns the identity of a call with this `_meta`, made by a client of this name.
    ///
    /// # Errors
    ///
    /// `identity_unproven` when the request names an agent without the secret of the run.
    pub fn identify(&self, meta: &JsonObject, client: Option<&str>) -> Result<Identity, Refusal> {
        let Some(claim) = meta.get(IDENTITY_META_KEY) else {
            return Ok(self.unclaimed(client));
        };
        let unproven = |reason: String| {
            Refusal::refused(
                "identity_unproven",
                reason,
                format!(
                    "leave `_meta[\"{IDENTITY_META_KEY}\"]` out, or set TOLLGATE_AGENT where the server is started"
                ),
            )
        };
        let signed: SignedIdentity = serde_json::from_value(claim.clone())
            .map_err(|error| unproven(format!("the request's identity has the wrong form: {error}")))?;
        if !self.secret.as_ref().is_some_and(|secret| secret.verify(&signed)) {
            return Err(unproven("the request names an agent but does not prove that the orchestrator sent it".into()));
        }
        if [Some(&signed.agent), signed.role.as_ref(), signed.task_id.as_ref(), signed.call_id.as_ref()]
            .iter()
            .flatten()
            .any(|name| name.len() > NAME_BYTES_MAX)
        {
            return Err(unproven(format!("a name in the request's identity is longer than {NAME_BYTES_MAX} bytes")));
        }
        Ok(Identity {
            agent: Agent { name: signed.agent, role: signed.role },
            task_id: signed.task_id,
            call_id: signed.call_id,
        })
    }

    /// Returns the identity of a call that claims none.
    #[must_use]
    pub fn unclaimed(&self, client: Option<&str>) -> Identity {
        let mut identity = self.fallback.clone();
        if identity.agent.name.is_empty() {
            identity.agent.name = client
                .map(|name| name.chars().filter(|c| !c.is_control()).take(NAME_BYTES_MAX / 4).collect())
                .filter(|name: &String| !name.is_empty())
                .unwrap_or_else(|| "unknown".to_owned());
        }
        identity
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source(secret: Option<RunSecret>) -> IdentitySource {
        IdentitySource { secret, fallback: Identity::default() }
    }

    fn meta(signed: &impl Serialize) -> JsonObject {
        JsonObject::from_iter([(IDENTITY_META_KEY.to_owned(), json!(signed))])
    }

    fn bugfix() -> Identity {
        Identity {
            agent: Agent { name: "bugfix-1".into(), role: Some("bugfix".into()) },
            task_id: Some("TASK-7".into()),
            call_id: None,
        }
    }

    #[test]
    fn proven_identity_is_taken() {
        let secret = RunSecret::generate().unwrap();
        let signed = secret.sign(&bugfix());
        assert_eq!(source(Some(secret)).identify(&meta(&signed), None).unwrap(), bugfix());
    }

    #[test]
    fn forged_identities_are_refused() {
        let secret = RunSecret::generate().unwrap();
        let signed = json!(secret.sign(&bugfix()));
        let mut forgeries = vec![json!("operator"), json!({"agent": "operator"}), json!(null), json!([])];
        for (field, value) in
            [("role", "operator"), ("agent", "human"), ("task_id", "TASK-8"), ("call_id", "x"), ("proof", "")]
        {
            let mut forged = signed.clone();
            forged[field] = json!(value);
            forgeries.push(forged);
        }
        let mut roleless = signed.clone();
        roleless.as_object_mut().unwrap().remove("role");
        forgeries.push(roleless);
        forgeries.push(json!(RunSecret::generate().unwrap().sign(&bugfix())));
        for forged in forgeries {
            let refusal = source(Some(secret.clone())).identify(&meta(&forged), None).unwrap_err();
            assert_eq!(refusal.code, "identity_unproven", "{forged}");
        }
        assert!(source(None).identify(&meta(&signed), None).is_err(), "no secret, nothing to prove with");
    }

    #[test]
    fn client_name_is_the_last_resort() {
        assert_eq!(source(None).identify(&JsonObject::new(), Some("claude-code")).unwrap().agent.name, "claude-code");
        assert_eq!(source(None).identify(&JsonObject::new(), Some("a\nb")).unwrap().agent.name, "ab");
        assert_eq!(source(None).identify(&JsonObject::new(), None).unwrap().agent.name, "unknown");
    }
}
