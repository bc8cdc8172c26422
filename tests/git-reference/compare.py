"""The twelve tools of the reference git server, called as a host calls them, there and at mcp-git.

Each call is made in two copies of one repository. What is compared: whether it succeeds, the facts in its answer (the
branch, the paths, the patch, the commits), and what it does to the repository (refs, HEAD, index, files). A difference
has a name, `tool: case: what`; docs/git-reference.md lists the names that there may be, and every name that it lists has to be found.

Usage: compare.py MCP_GIT MCP_SERVER_GIT DOCUMENT
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

OURS, REFERENCE, DOCUMENT = sys.argv[1:4]
ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


def git(folder, *arguments, at=None, check=True):
    environment = dict(ENVIRONMENT)
    if at is not None:
        environment["GIT_AUTHOR_DATE"] = environment["GIT_COMMITTER_DATE"] = f"{at} +0000"
    done = subprocess.run(["git", "-C", str(folder), *arguments], env=environment, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"git {arguments}: {done.stderr}")
    return done.stdout


class Server:
    """A server over stdio, spoken to in the revision that most hosts speak."""

    def __init__(self, command, folder):
        self.process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )
        self.id = 0
        self.request("initialize", {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "compare", "version": "1"},
        })
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def request(self, method, parameters):
        self.id += 1
        self.send({"jsonrpc": "2.0", "id": self.id, "method": method, "params": parameters})
        while line := self.process.stdout.readline():
            message = json.loads(line)
            if message.get("id") == self.id:
                return message
        raise RuntimeError(f"{method} was not answered")

    def call(self, tool, arguments):
        result = self.request("tools/call", {"name": tool, "arguments": arguments}).get("result", {"isError": True})
        text = "\n".join(part.get("text", "") for part in result.get("content", []))
        return not result.get("isError", False), text, result.get("structuredContent")


def template(folder):
    """Two branches, tags, a remote's branch; something staged, changed, deleted, renamed and new."""
    git(folder.parent, "init", "-q", "-b", "main", str(folder))
    git(folder, "config", "user.name", "A")
    git(folder, "config", "user.email", "a@example.com")

    def commit(number, message, **files):
        for name, content in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", message, at=1_700_000_000 + number * 1000)

    lines = "".join(f"line {number}\n" for number in range(40))
    commit(1, "First", README="hello\n", src__a=lines, src__b="b\n", gone="gone\n", moved="moved\n" * 20)
    git(folder, "tag", "v1")
    commit(2, "Second\n\nWith a body\nof two lines.", src__a=lines.replace("line 7\n", "line seven\n"))
    git(folder, "tag", "-a", "v2", "-m", "annotated", at=1_700_002_500)
    git(folder, "checkout", "-q", "-b", "feature")
    commit(3, "Third: ünïcode", src__c="c\n", latin="ascii\n")
    git(folder, "update-ref", "refs/remotes/origin/main", "main")
    git(folder, "branch", "other", "main")
    (folder / ".git/info/exclude").write_text("*.log\n")


def dirty(folder):
    (folder / "README").write_text("hello\nagain\n")
    (folder / "src/a").write_text((folder / "src/a").read_text().replace("line 20\n", "line twenty\n"))
    git(folder, "add", "src/a")
    (folder / "gone").unlink()
    git(folder, "mv", "moved", "renamed")
    (folder / "new").write_text("new\n")
    (folder / "folder").mkdir()
    (folder / "folder/x").write_text("x\n")
    (folder / "x.log").write_text("log\n")


def on(branch):
    return lambda folder: git(folder, "checkout", "-q", branch)


def both(*steps):
    return lambda folder: [step(folder) for step in steps]


def conflict(folder):
    git(folder, "checkout", "-q", "other")
    (folder / "src/c").write_text("other\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Other", at=1_700_009_000)
    git(folder, "merge", "-q", "feature", at=1_700_009_500, check=False)


def resolved(folder):
    conflict(folder)
    (folder / "src/c").write_text("both\n")
    git(folder, "add", ".")


def unborn(folder):
    shutil.rmtree(folder)
    git(folder.parent, "init", "-q", "-b", "main", str(folder))
    git(folder, "config", "user.name", "A")
    git(folder, "config", "user.email", "a@example.com")
    (folder / "first").write_text("first\n")


def staged_unborn(folder):
    unborn(folder)
    git(folder, "add", "first")


def binary(folder):
    (folder / "src/b").write_bytes(b"\0\1\2")


def nothing(_):
    pass


# tool, case, what is done before, arguments
CASES = [
    ("git_status", "clean", nothing, {}),
    ("git_status", "dirty", dirty, {}),
    ("git_status", "conflict", conflict, {}),
    ("git_status", "unborn", unborn, {}),
    ("git_status", "detached", on("v1"), {}),
    ("git_diff_unstaged", "clean", nothing, {}),
    ("git_diff_unstaged", "dirty", dirty, {}),
    ("git_diff_unstaged", "context", dirty, {"context_lines": 0}),
    ("git_diff_unstaged", "binary", binary, {}),
    ("git_diff_staged", "clean", nothing, {}),
    ("git_diff_staged", "dirty", dirty, {}),
    ("git_diff_staged", "context", dirty, {"context_lines": 1}),
    ("git_diff_staged", "unborn", staged_unborn, {}),
    ("git_diff", "branch", nothing, {"target": "main"}),
    ("git_diff", "dirty", dirty, {"target": "HEAD"}),
    ("git_diff", "range", nothing, {"target": "v1..feature"}),
    ("git_diff", "parting", nothing, {"target": "v1...feature"}),
    ("git_diff", "tag", dirty, {"target": "v1", "context_lines": 2}),
    ("git_diff", "unknown", nothing, {"target": "nothing"}),
    ("git_diff", "option", nothing, {"target": "--stat"}),
    ("git_commit", "plain", dirty, {"message": "A message\n\nWith a body."}),
    ("git_commit", "empty", nothing, {"message": "nothing"}),
    ("git_commit", "protected", both(on("main"), dirty), {"message": "on main"}),
    ("git_commit", "detached", both(on("v1"), lambda folder: (folder / "n").write_text("n"), lambda folder: git(folder, "add", "n")), {"message": "x"}),
    ("git_commit", "first", staged_unborn, {"message": "first"}),
    ("git_commit", "merge", resolved, {"message": "merge"}),
    ("git_commit", "conflict", conflict, {"message": "merge"}),
    ("git_add", "file", dirty, {"files": ["README"]}),
    ("git_add", "new", dirty, {"files": ["new", "folder"]}),
    ("git_add", "all", dirty, {"files": ["."]}),
    ("git_add", "deleted", dirty, {"files": ["gone"]}),
    ("git_add", "none", dirty, {"files": []}),
    ("git_add", "missing", dirty, {"files": ["nothing"]}),
    ("git_add", "ignored", dirty, {"files": ["x.log"]}),
    ("git_add", "outside", dirty, {"files": ["../x"]}),
    ("git_add", "pattern", dirty, {"files": ["src/*"]}),
    ("git_add", "again", nothing, {"files": ["README"]}),
    ("git_reset", "dirty", dirty, {}),
    ("git_reset", "clean", nothing, {}),
    ("git_log", "default", nothing, {}),
    ("git_log", "count", nothing, {"max_count": 2}),
    ("git_log", "since", nothing, {"start_timestamp": "2023-11-14T22:40:00Z"}),
    ("git_log", "until", nothing, {"end_timestamp": "2023-11-14T22:40:00Z"}),
    ("git_log", "relative", nothing, {"start_timestamp": "2 weeks ago"}),
    ("git_log", "words", nothing, {"start_timestamp": "Nov 14 2023"}),
    ("git_log", "unborn", unborn, {}),
    ("git_create_branch", "plain", nothing, {"branch_name": "topic"}),
    ("git_create_branch", "base", nothing, {"branch_name": "topic", "base_branch": "main"}),
    ("git_create_branch", "exists", nothing, {"branch_name": "other"}),
    ("git_create_branch", "protected", nothing, {"branch_name": "release/1"}),
    ("git_create_branch", "detached", on("v1"), {"branch_name": "topic"}),
    ("git_create_branch", "commit", nothing, {"branch_name": "topic", "base_branch": "HEAD~1"}),
    ("git_create_branch", "option", nothing, {"branch_name": "-f"}),
    ("git_checkout", "branch", nothing, {"branch_name": "other"}),
    ("git_checkout", "main", nothing, {"branch_name": "main"}),
    ("git_checkout", "overwrite", lambda folder: (folder / "src/c").write_text("mine\n"), {"branch_name": "main"}),
    ("git_checkout", "carry", lambda folder: (folder / "README").write_text("mine\n"), {"branch_name": "main"}),
    ("git_checkout", "tag", nothing, {"branch_name": "v1"}),
    ("git_checkout", "unknown", nothing, {"branch_name": "nothing"}),
    ("git_show", "head", nothing, {"revision": "HEAD"}),
    ("git_show", "body", nothing, {"revision": "main"}),
    ("git_show", "first", nothing, {"revision": "v1"}),
    ("git_show", "annotated", nothing, {"revision": "v2"}),
    ("git_show", "file", nothing, {"revision": "v1:src/b"}),
    ("git_show", "folder", nothing, {"revision": "HEAD:src"}),
    ("git_show", "unknown", nothing, {"revision": "nothing"}),
    ("git_branch", "local", nothing, {"branch_type": "local"}),
    ("git_branch", "remote", nothing, {"branch_type": "remote"}),
    ("git_branch", "all", nothing, {"branch_type": "all"}),
    ("git_branch", "contains", nothing, {"branch_type": "local", "contains": "feature"}),
    ("git_branch", "without", nothing, {"branch_type": "local", "not_contains": "feature"}),
    ("git_branch", "kind", nothing, {"branch_type": "nonsense"}),
]


def patch(text):
    """The lines of a patch that say what changes, by file."""
    files, path = {}, None
    for line in text.splitlines():
        if match := re.match(r"diff --git a/(.*) b/(.*)$", line):
            path = match[2]
            files[path] = []
        elif line.startswith("--- "):
            continue
        elif match := re.match(r"\+\+\+ (?:b/)?(.*)$", line):
            if path is None:
                path = match[1]
                files.setdefault(path, [])
        elif path is not None and line[:1] in "+- @\\" and line:
            files[path].append(re.sub(r"^(@@ .* @@).*", r"\1", line))
        elif path is not None and "Binary" in line or "binary" in line.lower():
            files[path].append("binary")
    return {path: lines for path, lines in files.items() if path != "/dev/null"}


def facts_of_reference(tool, text):
    if tool == "git_status":
        branch = re.search(r"On branch (\S+)", text)
        sections, section = {"staged": set(), "unstaged": set(), "untracked": set(), "conflicted": set()}, None
        for line in text.splitlines():
            if line.startswith("Changes to be committed"):
                section = "staged"
            elif line.startswith("Changes not staged"):
                section = "unstaged"
            elif line.startswith("Untracked files"):
                section = "untracked"
            elif line.startswith("Unmerged paths"):
                section = "conflicted"
            elif line.startswith("\t") and section:
                name = re.sub(r"^(new file|modified|deleted|renamed|both added|both modified):\s+", "", line.strip())
                sections[section].add(name.split(" -> ")[-1])
        return {"branch": branch[1] if branch else None, **{name: sorted(paths) for name, paths in sections.items()}}
    if tool.startswith("git_diff"):
        return patch(text)
    if tool == "git_log":
        return re.findall(r"Commit: ([0-9a-f]{40})", text)
    if tool == "git_branch":
        names = [line[2:].split(" -> ")[0] for line in text.splitlines() if line[:2] in ("  ", "* ") and "(HEAD" not in line]
        # The reference's text starts without the blanks of its first line.
        first = text.strip().splitlines()[:1]
        names += [line.strip() for line in first if line[:2] not in ("  ", "* ")]
        return sorted({name.strip().removeprefix("remotes/") for name in names})
    if tool == "git_show":
        commit = re.search(r"^commit ([0-9a-f]{40})", text)
        if not commit:
            return text.strip()
        message = [line[4:] for line in text.splitlines() if line.startswith("    ")]
        return {"commit": commit[1], "message": "\n".join(message).strip()}
    return None


def facts_of_ours(tool, text, answer):
    if tool == "git_status":
        paths = lambda name: sorted(entry["path"] for entry in answer[name])
        return {
            "branch": answer.get("branch"), "staged": paths("staged"), "unstaged": paths("unstaged"),
            "untracked": sorted(answer["untracked"]), "conflicted": sorted(answer["conflicted"]),
        }
    if tool.startswith("git_diff"):
        return patch(text)
    if tool == "git_log":
        return [commit["oid"] for commit in answer["commits"]]
    if tool == "git_branch":
        return sorted(branch["name"] for branch in answer["branches"])
    if tool == "git_show":
        return facts_of_reference(tool, text)
    return None


def effects(folder):
    """The state of the repository; of a commit without its id and what the server adds to its message."""
    head = (folder / ".git/HEAD").read_text().strip()
    form = "%(refname)%00%(tree)%00%(parent)%00%(authorname) %(authoremail)%00%(contents)%01"
    commits = git(folder, "for-each-ref", f"--format={form}")
    if not head.startswith("ref:"):
        commits += git(folder, "log", "-1", "--format=HEAD%x00%T%x00%P%x00%an <%ae>%x00%B%x01", check=False)
        head = "detached"
    trailer = re.compile(r"^(Agent|Agent-Role|Task|Tollgate-Receipt): .*\n", re.MULTILINE)
    commits = [re.sub(r"\s+", " ", commit).strip() for commit in trailer.sub("", commits).split("\1")]
    files = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    return {
        "head": head, "commits": commits, "index": git(folder, "ls-files", "--stage"), "files": files,
        "merging": (folder / ".git/MERGE_HEAD").exists(),
    }


def listed():
    names = re.findall(r"^\| `([a-z_]+: [a-z]+: [a-z]+)` \|", pathlib.Path(DOCUMENT).read_text(), re.MULTILINE)
    assert len(names) == len(set(names)), "a difference is listed twice"
    return set(names)


def main():
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root).resolve()
        ENVIRONMENT["HOME"] = str(root)
        base = root / "template"
        template(base)
        servers = {"ours": Server([OURS], root), "reference": Server([REFERENCE], root)}
        found, same = {}, 0
        for number, (tool, case, prepare, arguments) in enumerate(CASES):
            seen = {}
            for name, server in servers.items():
                # Of one length and one name, since paths are in some answers.
                folder = root / f"{name[:4]}{number:03}"
                shutil.copytree(base, folder, symlinks=True)
                prepare(folder)
                ok, text, answer = server.call(tool, {"repo_path": str(folder), **arguments})
                facts = None
                if ok:
                    facts = facts_of_ours(tool, text, answer) if name == "ours" else facts_of_reference(tool, text)
                seen[name] = {"outcome": ok, "facts": facts, "text": text, **effects(folder)}
            ours, reference = seen["ours"], seen["reference"]
            differences = [what for what in ["outcome", "head", "commits", "index", "files", "merging"] if ours[what] != reference[what]]
            if ours["outcome"] and reference["outcome"] and ours["facts"] != reference["facts"]:
                differences.append("facts")
            # What follows from one of them having refused says nothing more.
            if "outcome" in differences:
                differences = ["outcome"]
            for what in differences:
                found[f"{tool}: {case}: {what}"] = (ours[what], reference[what], ours["text"], reference["text"])
            same += not differences
        for server in servers.values():
            server.process.stdin.close()
            server.process.wait(timeout=20)
    expected = listed()
    for name in sorted(set(found) - expected):
        print(f"NOT LISTED {name}")
        for label, value in zip(["mcp-git", "reference", "mcp-git says", "reference says"], found[name]):
            print(f"  {label}: {str(value)[:600]}")
    for name in sorted(expected - set(found)):
        print(f"LISTED AND NOT FOUND {name}")
    print(f"{len(CASES)} calls of {len({case[0] for case in CASES})} tools: {same} alike, {len(found)} differences, all listed: {set(found) == expected}")
    sys.exit(set(found) != expected)


main()
