#!/usr/bin/env bash
# Check types and imports of a wheel: setup.cfg maps several folders into one package only when it is installed.
# usage: tools/ci/types.sh .ci-venv/dist
set -euo pipefail
root=$PWD
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
uv pip install --quiet --no-deps --target "$tree" "$1"/*.whl
cd "$tree"
mypy -p noisybench --config-file "$root/setup.cfg"
lint-imports --no-cache --config "$root/.importlinter"
