#!/bin/sh
# A step of CI: with BASE, such as the commit that a pull request starts from, what changed since must pass; without, the
# whole tree. The code host shows ralph.sarif beside the change.
if [ -n "${BASE:-}" ]; then set -- --base "$BASE"; else set -- .; fi
mcp-ralph verify --format sarif "$@" > ralph.sarif
