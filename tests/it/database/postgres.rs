//! PostgreSQL: a real server, with a role that could do anything.

mod attacks;
mod limits;
mod uses;

pub use tollgate_tests::shop::PostgresShop as World;

pub use super::world::rows;
