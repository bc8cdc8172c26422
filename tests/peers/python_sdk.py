"""The official Python SDK lists and calls the tools of each server, in both eras of the protocol.

Usage: python_sdk.py PROGRAMS_DIR
"""

import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
RECEIPT = "io.tollgate/receipt"

# One call that succeeds and one that is refused, for each server.
CALLS = {
    "mcp-ralph": [("list_checks", {}, None), ("verify_file", {"path": "../outside.py"}, "path_outside_root")],
    "mcp-git": [("git_status", {}, None), ("git_commit", {"message": "x"}, "protected_branch")],
    "mcp-database": [("list_databases", {}, None), ("query", {"sql": "DROP TABLE t"}, "no_database")],
    "mcp-deploy": [
        ("list_environments", {}, None),
        ("deploy", {"environment": "nope", "service": "s", "version": "1", "artifact": "."}, "unknown_environment"),
    ],
}


async def check(name: str, folder: str, mode: str) -> int:
    server = stdio_client(StdioServerParameters(command=str(PROGRAMS / name), cwd=folder))
    checks = 0
    async with Client(server, mode=mode) as client:
        tools = (await client.list_tools()).tools
        assert any(tool.name == "cost_report" for tool in tools), name
        for tool in tools:
            assert tool.output_schema and tool.title and tool.description and tool.annotations, tool.name
            checks += 1
        for tool, arguments, code in CALLS[name]:
            result = await client.call_tool(tool, arguments)
            assert bool(result.is_error) == (code is not None), (name, tool, result)
            if code:
                assert result.structured_content["error"]["code"] == code, (name, tool, result.structured_content)
            assert json.loads(result.content[0].text) == result.structured_content, (name, tool)
            assert result.meta[RECEIPT]["server"] == name.removeprefix("mcp-"), (name, tool)
            checks += 1
        resources = (await client.list_resources()).resources
        assert {str(resource.uri) for resource in resources} == {"cost://report", "cost://prices"}, name
        report = json.loads((await client.read_resource("cost://report")).contents[0].text)
        assert report["total"]["calls"] == len(CALLS[name]), (name, report)
        checks += 2
    return checks


async def main() -> None:
    passed = 0
    for mode in ["legacy", "auto", "2026-07-28"]:
        for name in CALLS:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
                subprocess.run(
                    ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q",
                     "--allow-empty", "-m", "first"],
                    check=True,
                )
                passed += await check(name, folder, mode)
    print(f"python sdk: {passed} checks passed")


asyncio.run(main())
