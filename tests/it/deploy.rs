//! Attacks beside uses of mcp-deploy.
