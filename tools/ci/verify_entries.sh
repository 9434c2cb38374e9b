#!/usr/bin/env bash
# Verify every entry that a pull request adds or changes in submissions/. Its files are only read, as data.
# usage: tools/ci/verify_entries.sh PULL_REQUEST [BASE]   (folders of two checkouts; the commands are those of BASE)
set -euo pipefail
shopt -s nullglob dotglob
incoming=$(realpath -- "$1")/submissions
base=$(realpath -- "${2:-.}")/submissions

# On GitHub a line such as `::add-path::` is a command, also if it comes from the name of a file in a pull request.
if [ -n "${GITHUB_ACTIONS:-}" ]; then
    token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    echo "::stop-commands::$token"
    trap 'echo "::$token::"' EXIT
fi

refused=0
count=0
refuse() { echo "refused: submissions/$1: $2"; refused=1; }

if [ -L "$incoming" ]; then
    echo "refused: submissions is a link; it must be a folder"
    exit 1
fi
for entry in "$incoming"/*; do
    name=${entry##*/}
    [ "$name" = README.md ] && continue
    # A link could lead back to the base branch, so an entry with one is never equal.
    if [ -z "$(find "$entry" -type l)" ] && diff -rq -- "$base/$name" "$entry" >/dev/null 2>&1; then
        continue # already in the base branch
    fi
    count=$((count + 1))
    shown=$(printf '%q' "$name")
    if ! [[ "$name" =~ ^[a-z0-9][a-z0-9._-]{0,63}$ ]]; then
        refuse "$shown" "a name has 1 to 64 characters of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit"
    elif [ -L "$entry" ] || ! [ -d "$entry" ]; then
        refuse "$shown" "an entry is a folder written by \`noisybench leaderboard package submissions/my-entry\`"
    else
        echo "submissions/$name"
        noisybench leaderboard verify --max-memory 8 "$entry" || refuse "$shown" "see the lines above"
    fi
done
[ "$count" -gt 0 ] || echo "No entry was added or changed in submissions/."
exit "$refused"
