#!/usr/bin/env bash
# Install a wheel into a fresh environment, without the extras of the tests, and use it away from the checkout.
# usage: tools/ci/wheel.sh .ci-venv/dist
set -euo pipefail
ci=$PWD/tools/ci
wheel=$(realpath "$1"/*.whl)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

uv venv --quiet --python "$(command -v python)" "$work/venv"
uv pip install --quiet --python "$work/venv/bin/python" "$wheel"
export PATH=$work/venv/bin:$PATH NOISYBENCH_CACHE=$work/cache OMP_NUM_THREADS=1
unset PYTHONPATH VIRTUAL_ENV MLFLOW_TRACKING_URI
cd "$work"
use() { echo "+ $*"; "$@" >output.txt 2>&1 || { cat output.txt; exit 1; }; }

use noisybench --version
grep -qx "noisybench $(basename "$wheel" | cut -d- -f2)" output.txt
use noisybench list
# The page of an audit takes longest, and needs none of the runs.
mkdir audit
(cd audit && use noisybench audit digits --folds 2 budget.epochs=1 dataset.train_size=200 -o report) &
use noisybench run digits budget.epochs=1 dataset.train_size=200
use noisybench leaderboard export site
# What a contributor packages passes the check of pull requests.
use noisybench leaderboard package pull-request/submissions/example --description "One epoch on digits"
use bash "$ci/verify_entries.sh" pull-request "$work"
cat output.txt
use python -c "import noisybench as nb; assert nb.load_dataset('digits').num_classes == 10; assert '$work' in nb.__file__"
wait $!
for page in site/index.html audit/report/report.html; do
    grep -q '</html>' "$page"
done
echo "The wheel works in a fresh environment."
