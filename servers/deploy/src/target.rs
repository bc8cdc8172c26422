//! Where releases go.

pub mod release_directory;
