#!/bin/sh
# An agent's stop hook (Claude Code: hooks.Stop in .claude/settings.json): the agent may not call it a day while what
# it changed can still be fixed. What is blocked is a person's business, so the agent is let go and the person told.
set -u
cd "${CLAUDE_PROJECT_DIR:-.}" || exit 2
findings=$(mcp-ralph verify --base --allow-skipped) && exit 0
case "
$findings" in
*"
blocked: "*) echo '{"systemMessage": "Ralph blocked what the agent changed: run mcp-ralph verify --base and decide."}' ;;
*"
fail: "* | *"
inconclusive: "*) echo "$findings" >&2; exit 2 ;;
*) echo "the stop hook could not run: $findings" >&2; exit 2 ;;
esac
