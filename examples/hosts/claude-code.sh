claude mcp add ralph -- mcp-ralph
claude mcp add git -- mcp-git
claude mcp add database -- mcp-database
claude mcp add deploy -- mcp-deploy
