"""Drives mcp-ralph over stdio: each preset sees one file that it must pass and one that it must not."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

RALPH, TOOLS = sys.argv[1], pathlib.Path(sys.argv[2])

RUST_GOOD = """pub fn double(x: u32) -> u32 {
    x * 2
}

#[test]
fn doubles() {
    assert_eq!(double(2), 4);
}
"""

# preset, check, file, good content, bad content, whole project
CASES = [
    ("ruff", "linting", "src/a.py", "import os\n\nprint(os.sep)\n", "import os\n"),
    ("black", "formatting", "src/a.py", "x = [1, 2]\n", "x = [1,2]\n"),
    ("mypy", "type_checking", "src/a.py", "x: int = 1\n", 'x: int = "1"\n'),
    ("pytest", "tests", "test_a.py", "def test_a():\n    assert 1 + 1 == 2\n", "def test_a():\n    assert 1 + 1 == 3\n"),
    ("shellcheck", "linting", "a.sh", '#!/bin/sh\necho "$1"\n', "#!/bin/sh\necho $1\n"),
    ("eslint", "linting", "src/a.js", "export const x = 1;\n", "export const x = y;\n"),
    ("prettier", "formatting", "src/a.js", "export const x = 1;\n", "export const x = 1\n"),
    ("tsc", "type_checking", "src/a.ts", "export const x: number = 1;\n", 'export const x: number = "1";\n'),
    ("clippy", "linting", "src/lib.rs", RUST_GOOD, "pub fn double(x: u32) -> u32 {\n    return x * 2;\n}\n"),
    ("rustfmt", "formatting", "src/lib.rs", RUST_GOOD, "pub fn double(x:u32) -> u32 {\n    x * 2\n}\n"),
    ("cargo-test", "tests", "src/lib.rs", RUST_GOOD, RUST_GOOD.replace("x * 2", "x * 3")),
]

# what is added to a file without a meaning, by the end of its name
MORE = {"py": "# more\n", "sh": "# more\n", "js": "// more\n", "ts": "// more\n", "rs": "// more\n"}

# preset, check, file, content: nothing was verified, so it is no pass
NOTHING = [
    ("pytest", "tests", "test_a.py", "def helper():\n    pass\n"),
    ("pytest", "tests", "test_a.py", "import pytest\n\n\n@pytest.mark.skip\ndef test_a():\n    pass\n"),
]


class Ralph:
    def __init__(self, folder):
        path = os.pathsep.join([str(TOOLS / "python/bin"), str(TOOLS / "node/node_modules/.bin"), os.environ["PATH"]])
        self.process = subprocess.Popen(
            [RALPH], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": path}
        )
        self.id = 0
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tools", "version": "1"}}
        self.ask("initialize", hello)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, method, params):
        self.id += 1
        self.send({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params})
        while True:
            answer = json.loads(self.process.stdout.readline())
            if answer.get("id") == self.id:
                return answer["result"]

    def verify(self, path, check):
        arguments = {"path": path, "checks": [check]}
        return self.ask("tools/call", {"name": "verify_file", "arguments": arguments})["structuredContent"]

    def changes(self, check):
        return self.ask("tools/call", {"name": "verify_changes", "arguments": {"checks": [check]}})["structuredContent"]

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


def world(folder, preset):
    (folder / "src").mkdir(exist_ok=True)
    readable = json.dumps([str(TOOLS)])
    (folder / "tollgate.toml").write_text(f'[ralph]\nreadable = {readable}\n[ralph.commands.tool]\npreset = "{preset}"\n')
    (folder / ".gitignore").write_text("node_modules\n.tollgate\ntarget\n")
    (folder / "Cargo.toml").write_text('[package]\nname = "small"\nversion = "0.1.0"\nedition = "2024"\n')
    if not (folder / "node_modules").exists():
        (folder / "node_modules").mkdir()
        for name in (TOOLS / "node/node_modules").iterdir():
            (folder / "node_modules" / name.name).symlink_to(name)
    (folder / "package.json").write_text('{"type": "module"}\n')
    (folder / "eslint.config.js").write_text('import js from "@eslint/js";\nexport default [js.configs.recommended];\n')
    options = {"strict": True, "types": [], "noEmit": True}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["src"]}))


def check(preset, name, path, content, expected):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        world(folder, preset)
        (folder / path).write_text(content)
        ralph = Ralph(folder)
        answer = ralph.verify(path, name)
        again = ralph.verify(path, name)
        ralph.end()
    verdict = answer.get("verdict")
    cached = again.get("cached") is True
    good = verdict == expected and cached == (expected in ("pass", "fail"))
    print(f"{'ok  ' if good else 'BAD '} {preset:11} {expected:13} {verdict}{' cached' if cached else ''}", flush=True)
    if not good:
        print(json.dumps(answer, indent=1), json.dumps(again))
    return good


def git(folder, *arguments):
    who = ["-c", "user.name=tools", "-c", "user.email=tools@localhost", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def change(preset, name, path, before, after, expected):
    """The same through verify_changes: what the base had already does not count."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        world(folder, preset)
        (folder / path).write_text(before)
        git(folder, "init", "-q")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", "before")
        (folder / path).write_text(after)
        ralph = Ralph(folder)
        answer = ralph.changes(name)
        ralph.end()
    counted = [check for check in answer.get("checks", []) if check["check"] == name]
    good = answer.get("verdict") == expected and len(counted) == 1
    good = good and (expected == "fail") == (counted[0]["new"] > 0)
    print(f"{'ok  ' if good else 'BAD '} {preset:11} {expected:13} {answer.get('verdict')} in a change", flush=True)
    if not good:
        print(json.dumps(answer, indent=1))
    return good


def main():
    results = []
    for preset, name, path, good, bad in CASES:
        results.append(check(preset, name, path, good, "pass"))
        results.append(check(preset, name, path, bad, "fail"))
        more = MORE[path.rsplit(".", 1)[1]]
        results.append(change(preset, name, path, good, bad, "fail"))
        results.append(change(preset, name, path, bad, bad + more, "pass"))
    for preset, name, path, content in NOTHING:
        results.append(check(preset, name, path, content, "inconclusive"))
    print(f"{sum(results)} of {len(results)}")
    sys.exit(0 if all(results) else 1)


main()
