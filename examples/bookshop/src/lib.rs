//! A small shop that quotes prices for books.

pub mod catalogue;
pub mod price;
pub mod server;
