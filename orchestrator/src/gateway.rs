//! `orchestrator serve`: all servers as one, for any host.
//!
//! [`Gateway`] is what all clients share; each client's connection is a [`Front`]. A client in a session has servers of
//! its own, which may ask it; clients of the newest revision, where every request stands alone, share one set.

mod backends;
mod call;
mod forward;
mod front;
pub mod http;
pub(crate) mod lines;
pub mod policy;
mod search;

use std::sync::{Arc, RwLock};

use rmcp::model::ServerCapabilities;
use tokio::sync::{OnceCell, Semaphore};
use tollgate_shared::identity::IdentitySource;
use tollgate_shared::serve::drain::Drain;

use crate::config::House;
use crate::fleet::Fleet;
use backends::Backends;
pub use front::Front;
use policy::Policy;

/// Most sessions at a time: each has processes of its own.
const SESSIONS_MAX: usize = 64;

/// What all clients share.
pub struct Gateway {
    fleet: Fleet,
    shared: OnceCell<Arc<Backends>>,
    sessions: Arc<Semaphore>,
    /// What the servers can do together, as far as it is known.
    capabilities: RwLock<ServerCapabilities>,
    policy: Arc<Policy>,
    identities: IdentitySource,
    drain: Arc<Drain>,
}

impl Gateway {
    /// Puts the servers of `house` behind `policy`; none is started before a client comes.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random numbers.
    pub fn new(house: &House, policy: Policy) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            fleet: Fleet::new(house)?,
            shared: OnceCell::new(),
            capabilities: RwLock::new(backends::least_capabilities()),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            policy: Arc::new(policy),
            identities: IdentitySource::from_env(),
            drain: Arc::default(),
        }))
    }

    /// Returns what knows the calls in flight.
    #[must_use]
    pub fn drain(&self) -> Arc<Drain> {
        Arc::clone(&self.drain)
    }

    /// Returns the servers of all clients without a session.
    async fn shared(&self) -> Arc<Backends> {
        let begin = async || Backends::new(self.fleet.without_session(), Arc::clone(&self.policy));
        Arc::clone(self.shared.get_or_init(begin).await)
    }

    /// Ends the servers that all clients share.
    pub async fn close(&self) {
        if let Some(shared) = self.shared.get() {
            shared.fleet.close().await;
        }
    }
}

/// The one report that takes the place of every server's own, as the host sees it.
fn report_tool() -> rmcp::model::Tool {
    let tool = crate::catalogue::CatalogueTool::cost_report();
    let schema = match tool.input_schema {
        serde_json::Value::Object(schema) => schema,
        _ => serde_json::Map::new(),
    };
    let annotations = rmcp::model::ToolAnnotations::new().read_only(true);
    rmcp::model::Tool::new(tool.name, tool.description, Arc::new(schema)).with_annotations(annotations)
}
