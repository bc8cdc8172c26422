#!/bin/sh
# An agent's stop hook (Claude Code: hooks.Stop in .claude/settings.json): the agent may not call it a day while what
# it changed can still be fixed. What is blocked is a person's business, so the agent is let go and the person told.
set -u
cd "${CLAUDE_PROJECT_DIR:-.}" || exit 2
changed() { git ls-files -z --modified --others --exclude-standard --deduplicate; git diff --cached --name-only -z; }
findings=$(changed | sort -zu | xargs -0r sh -c 'for file; do shift; [ ! -f "$file" ] || set -- "$@" "$file"; done
    [ $# -eq 0 ] || mcp-ralph verify --allow-skipped -- "$@"' verify)
case $? in
0) exit 0 ;;
123) ;;
*) echo "the stop hook could not run: $findings" >&2; exit 2 ;;
esac
case $findings in
*"
blocked: "*) echo '{"systemMessage": "Ralph blocked what the agent changed: run mcp-ralph verify and decide."}' ;;
*) echo "$findings" >&2; exit 2 ;;
esac
