"""What must be true of what a real agent did: check.py AGENT EVENTS PROVIDER COSTS."""

import json
import os
import subprocess
import sys

agent = sys.argv[1]
events = [json.loads(line) for line in open(sys.argv[2])]
provider = json.loads(open(sys.argv[3]).read().splitlines()[-1])
costs = json.loads(sys.argv[4])
RIGHT = "def add(a, b):\n    return a + b\n"


def show(revision):
    return subprocess.check_output(["git", "show", revision + ":calc.py"], text=True)


def ok(what):
    print("  ok:", what)


def claude():
    end = events[-1]
    assert end["ending"] == "done", end
    assert show(end["commit"]) == RIGHT
    decisions = [event["verdict"]["decision"] for event in events if event["event"] == "verdict"]
    assert decisions == ["again", "done"], decisions
    ok("done after what verification found was told to it, and committed")

    calls = [event["call"]["tool"] for event in events if event["event"] == "called"]
    assert calls.count("tollgate__write_file") == 2 and "tollgate__read_file" in calls, calls
    ok("it used the task's tools, and each call is in the session")

    results = {}
    for request in provider["requests"]:
        for message in request["messages"]:
            for part in message["content"] if isinstance(message["content"], list) else []:
                if part.get("type") == "tool_result":
                    results[part["tool_use_id"]] = json.dumps(part["content"])
    assert "This is not done" in json.dumps(provider["requests"]), "the findings did not reach the model"
    assert any("No such tool" in result for result in results.values()), results
    assert not os.path.exists("/etc/tollgate-was-here"), "it wrote outside of the sandbox"
    ok("it had no push, and wrote nothing outside")

    reported = costs["groups"]["model.acp/claude.reported"]
    assert reported["calls"] == 2 and float(reported["amount"]) > 0, costs
    ok("what it says it cost is charged, turn by turn")


def codex():
    calls = [event["item"] for event in events if event["type"] == "item.completed" and event["item"]["type"] == "mcp_tool_call"]
    names = [call["tool"] for call in calls]
    assert names == [
        "git__git_create_branch", "ralph__verify_changes", "git__git_add", "git__git_commit", "git__git_checkout", "git__git_commit",
    ], names
    answers = [json.loads(call["result"]["content"][0]["text"]) for call in calls]
    assert answers[1]["verdict"] == "pass", answers[1]
    ok("it edited with its own tools, and verified through the gateway")
    assert answers[3]["error"]["code"] == "protected_branch", answers[3]
    assert show("main") != RIGHT and show("fix") == RIGHT
    ok("it could not commit on main, and did on its branch")
    receipts = [call["result"]["_meta"]["io.tollgate/receipt"] for call in calls]
    assert all(receipt["task_id"] == "TASK-1" and receipt["agent"]["name"] == "codex-1" for receipt in receipts), receipts
    assert costs["groups"]["TASK-1"]["calls"] == len(calls), costs
    ok("each call has its receipt, and they are those of the ledger")


assert not provider["complaints"], provider["complaints"]
{"claude": claude, "codex": codex}[agent]()
