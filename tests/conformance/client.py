#!/usr/bin/env python3
"""The orchestrator as the suite's client: client.py ORCHESTRATOR URL does what MCP_CONFORMANCE_SCENARIO asks for."""

import json
import os
import subprocess
import sys
import tempfile

orchestrator, url = sys.argv[1], sys.argv[-1]
scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
folder = tempfile.TemporaryDirectory()
with open(os.path.join(folder.name, "tollgate.toml"), "w") as file:
    file.write(f'[orchestrator]\nservers = []\n\n[servers.suite]\nurl = "{url}"\ncall_timeout_ms = 20000\n')


def run(*arguments):
    done = subprocess.run([orchestrator, *arguments], cwd=folder.name, stdout=subprocess.PIPE, text=True, timeout=25)
    return done.stdout


def tools():
    return json.loads(run("tools", "--format", "json"))["tools"]


def call(tool, arguments):
    return run("call", "suite", tool, json.dumps(arguments))


listed = tools()
names = [tool["tool"] for tool in listed if tool["server"] == "suite"]
if scenario == "tools_call":
    call("add_numbers", {"a": 5, "b": 3})
elif scenario == "json-schema-2020-12-preservation":
    for tool in listed:
        if tool["server"] == "suite" and "echo" in tool["tool"]:
            schemas = {other["tool"]: other["input_schema"] for other in listed}
            source = next(name for name in names if name != tool["tool"])
            call(tool["tool"], {next(iter(tool["input_schema"]["properties"])): schemas[source]})
elif "toolCalls" in context:
    for wanted in context["toolCalls"]:
        if wanted["name"] in names:
            call(wanted["name"], wanted["arguments"])
else:
    for name in names:
        call(name, {})
