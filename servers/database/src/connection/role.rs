//! The third lock of the servers: what the role of a connection can do beside reading.

use tokio::sync::OnceCell;
use tollgate_shared::refusal::Refusal;

use super::early::Leased;
use super::lease::{Lease, Server};

/// What is known of a role.
#[derive(Debug)]
pub(super) struct Role {
    /// Whether one that can do more than read is refused.
    must_only_read: bool,
    /// What it can do beside reading, once the server was asked.
    powers: OnceCell<Vec<String>>,
}

impl Role {
    /// Knows nothing yet.
    pub(super) fn new(must_only_read: bool) -> Self {
        Self { must_only_read, powers: OnceCell::new() }
    }

    /// Returns `lease` where its role may be used; asks at the first time, and warns of what the role can do.
    ///
    /// # Errors
    ///
    /// `role_can_write`, or why the server cannot be asked.
    pub(super) async fn permit<S: Server>(&self, mut lease: Lease<S>) -> Result<Lease<S>, Refusal> {
        let powers = match self.powers.get() {
            Some(powers) => powers,
            None => {
                let powers = S::powers(lease.connection()).await.map_err(|error| lease.server().refused(&error))?;
                if !powers.is_empty() {
                    tracing::warn!(role.powers = %powers.join(", "), "the role of a database can do more than read");
                }
                self.powers.get_or_init(|| async { powers }).await
            }
        };
        if self.must_only_read && !powers.is_empty() {
            lease.end().await;
            return Err(Refusal::refused(
                "role_can_write",
                format!("the role of this database can do more than read: {}", powers.join(", ")),
                "have the operator connect with a role that has SELECT only, or unset require_read_only_role",
            ));
        }
        Ok(lease)
    }
}
