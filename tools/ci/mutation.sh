#!/usr/bin/env bash
# Change single operators and numbers of the code, and list the changes that no test notices.
# usage: tools/ci/mutation.sh COUNT SEED
set -euo pipefail
uv pip install --quiet cosmic-ray coverage
python -m tests.mutation.campaign --known
python -m tests.mutation.campaign --count "$1" --seed "$2" --trace trace.json --report outcomes.json
