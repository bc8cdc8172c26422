//! Attacks beside uses of mcp-database.
