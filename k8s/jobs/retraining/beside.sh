#!/bin/sh
# Serves the newest version beside the promoted one, for requests that name it, and goes on with those that were beside
# already, a canary among them; which is promoted, and which goes, people decide.
#   beside.sh --repository /models/repository --triton triton:8001
set -eu
versions=$(python3 -m export.repository list --json "$@")
numbers() { printf '%s' "$versions" | python3 -c "import json, sys; versions = json.load(sys.stdin); print($1)"; }
promoted=$(numbers 'next(each["version"] for each in versions if each["active"] == "served")')
beside=$(numbers '*(each["version"] for each in versions if each["active"] == "beside"), versions[-1]["version"]')
# shellcheck disable=SC2086 # several numbers, a word each
exec python3 -m export.repository promote "$promoted" --beside $beside "$@"
