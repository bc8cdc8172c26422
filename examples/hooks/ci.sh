#!/bin/sh
# A step of CI: fails when the tree does not pass; the code host shows ralph.sarif beside the change.
mcp-ralph verify --format sarif . > ralph.sarif
