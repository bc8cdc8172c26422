#!/usr/bin/env python3
"""The orchestrator as the suite's client: client.py ORCHESTRATOR URL does what MCP_CONFORMANCE_SCENARIO asks for."""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

orchestrator, url = sys.argv[1], sys.argv[-1]
scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
# The document that the suite's authorization servers know; nobody fetches it.
METADATA_URL = "https://conformance-test.local/client-metadata.json"
# How often the person lets a login be widened before they have had enough.
WIDENED_MAX = 2
folder = tempfile.TemporaryDirectory()
environment = dict(os.environ, SUITE_CLIENT_SECRET=context.get("client_secret", ""))


def oauth_settings():
    settings = {"client_metadata_url": METADATA_URL}
    if scenario.startswith("auth/client-credentials"):
        settings = {"grant": "client_credentials"}
    if "client_id" in context:
        settings["client_id"] = context["client_id"]
        settings.pop("client_metadata_url", None)
    if "client_secret" in context:
        settings["client_secret"] = "${SUITE_CLIENT_SECRET}"
    if "private_key_pem" in context:
        settings["private_key"] = "key.pem"
        with open(os.path.join(folder.name, "key.pem"), "w") as file:
            file.write(context["private_key_pem"])
    return settings


with open(os.path.join(folder.name, "tollgate.toml"), "w") as file:
    file.write(f'[orchestrator]\nservers = []\n\n[servers.suite]\nurl = "{url}"\ncall_timeout_ms = 20000\n')
    if scenario.startswith("auth/"):
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in oauth_settings().items()]
        file.write("\n[servers.suite.oauth]\n" + "".join(lines))


def run(*arguments):
    command = [orchestrator, *arguments]
    done = subprocess.run(
        command, cwd=folder.name, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=25
    )
    return done.stdout


def tools():
    return json.loads(run("tools", "--format", "json"))["tools"]


def call(tool, arguments):
    return json.loads(run("call", "suite", tool, json.dumps(arguments), "--answer", "defaults") or "{}")


def log_in():
    """Logs in as a person does: opens the page that is shown, and goes where it leads; whether there is a login then."""
    command = [orchestrator, "login", "suite", "--no-browser", "--timeout", "15"]
    with subprocess.Popen(command, cwd=folder.name, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            page = re.match(r"\s+(https?://\S+)$", line)
            if page:
                try:
                    urllib.request.urlopen(page.group(1), timeout=10).read()
                except urllib.error.URLError as error:
                    print(f"the browser: {error}", file=sys.stderr)
        return process.wait() == 0


def with_login():
    """Calls every tool, logging in when the server wants it, and again when it wants more."""
    by_itself = "client-credentials" in scenario
    names = [tool["tool"] for tool in tools() if tool["server"] == "suite"]
    if not names and not by_itself:
        if not log_in():
            sys.exit("no login")
        names = [tool["tool"] for tool in tools() if tool["server"] == "suite"]
        if not names and log_in():
            names = [tool["tool"] for tool in tools() if tool["server"] == "suite"]
    for name in names:
        for _ in range(WIDENED_MAX + 1):
            code = call(name, {}).get("result", {}).get("error", {}).get("code")
            if code not in ("login_required", "insufficient_scope") or by_itself or not log_in():
                break


if scenario.startswith("auth/"):
    with_login()
    sys.exit(0)
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
