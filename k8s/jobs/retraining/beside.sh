#!/bin/sh
# Serves the newest version beside the promoted one, for requests that name it; whether it is promoted, people decide.
#   beside.sh --repository /models/repository --triton triton:8001
set -eu
versions=$(python3 -m export.repository list --json "$@")
number() { printf '%s' "$versions" | python3 -c "import json, sys; versions = json.load(sys.stdin); print($1)"; }
promoted=$(number 'next(each["version"] for each in versions if each["active"] == "served")')
newest=$(number 'versions[-1]["version"]')
exec python3 -m export.repository promote "$promoted" --beside "$newest" "$@"
