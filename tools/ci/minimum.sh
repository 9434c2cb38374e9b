#!/usr/bin/env bash
# Run the fast tests with the lowest versions that setup.cfg allows.
# usage: tools/ci/minimum.sh .ci-minimum
set -euo pipefail
python -m pip install --quiet uv
uv venv --quiet --python "$(command -v python)" "$1"
export VIRTUAL_ENV=$PWD/$1 PATH=$PWD/$1/bin:$PATH
uv pip install --quiet --resolution lowest-direct -e ".[test]"
# The lowest versions of some packages warn about the newest ones of others; the tests otherwise treat warnings as errors.
python -m pytest -m fast -W default
