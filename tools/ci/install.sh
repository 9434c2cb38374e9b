#!/usr/bin/env bash
# Create a virtual environment in a folder, activate it, and install noisybench with all that its tests need.
# usage: source tools/ci/install.sh .ci-venv
#
# This is the README's test command, read from there so that the two cannot differ, without its last part (the tests).
readme_line=$(grep -E '^python3 -m venv \.venv .* && python -m pytest$' README.md)
readme_line=${readme_line//.venv/$1}
eval "${readme_line% && *}"
