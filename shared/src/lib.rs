//! What every Tollgate binary speaks: money and receipts, prices, the ledger, identity,
//! configuration, and the one way in which a server is started and a call is answered.
//!
//! Where to look: a call is priced in [`price`], refused with a [`refusal`], recorded in
//! [`ledger`], and all three meet in [`serve::charge`].

pub mod audit;
pub mod config;
pub mod content_hash;
pub mod costs;
pub mod error_chain;
pub mod identity;
pub mod ids;
pub mod ledger;
pub mod money;
pub mod price;
pub mod receipt;
pub mod refusal;
pub mod sandbox;
pub mod serve;
pub mod sqlite;
pub mod state_dir;
