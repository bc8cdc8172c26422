//! Shops: databases of one test's own on real servers, and everything in them that a statement might change.

mod mysql;
mod postgres;

pub use mysql::MysqlShop;
pub use postgres::PostgresShop;
