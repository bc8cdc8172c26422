//! Attacks beside uses of mcp-ralph.
