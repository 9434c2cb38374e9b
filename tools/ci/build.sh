#!/usr/bin/env bash
# Build the source archive, and the wheel from it: a wheel built in place would pick up modules left in an old build folder.
# usage: tools/ci/build.sh .ci-venv/dist
set -euo pipefail
uv build --quiet --out-dir "$1"
ls "$1"/*.tar.gz "$1"/*.whl
