#!/usr/bin/env bash
# Train the next part of a campaign on a machine with a GPU and without a network, from files that were carried there.
#
# It installs carried wheels beside the machine's packages, checks the GPU, imports earlier parts, trains within a time limit,
# and exports what is new, also after a failure. On the machine at home: noisybench runs import OUT/*.zip

set -euo pipefail

usage() {
    cat <<'END'
usage: tools/gpu_campaign.sh [OPTIONS] check
       tools/gpu_campaign.sh [OPTIONS] benchmark [ARGUMENTS]
       tools/gpu_campaign.sh [OPTIONS] bench SUITE [OVERRIDES]

  check       install the wheels and check the device
  benchmark   measure the speed: python -m tests.performance.gpu ARGUMENTS, with the numbers in benchmark.json
  bench       train the next part of a suite: noisybench bench SUITE OVERRIDES

  --wheels DIR   wheels to install, without their dependencies (default: none)
  --data DIR     folder with train.parquet, test.parquet and CIFAR-10_human.pt, which becomes data/cifar10 (default: none)
  --parts DIR    files of earlier exports (*.zip) to import first (default: none)
  --out DIR      folder for files to bring home, each below 16 MiB (default: $OUT, or out)
  --work DIR     working folder with the store; may be used again (default: gpu-campaign)
  --checkpoints  bring checkpoints of unfinished runs home as well; one of ResNet-34 has 170 MB
  --limit TIME   time for everything, such as 90s, 9m or 1h (default: 9m)
  --device NAME  cuda, or cpu to try the script (default: cuda)
  --python FILE  Python (default: python3)
END
}

fail() {
    echo "error: $*" >&2
    exit 2
}

wheels="" data="" parts="" checkpoints="" out="${OUT:-out}" work="gpu-campaign" limit="9m" device="cuda" python="python3"
# Time that the export may take: it is kept from the limit.
export_seconds=25
max_files=8

while [[ "${1:-}" == --* ]]; do
    case "$1" in
        --help) usage && exit 0 ;;
        --checkpoints) checkpoints=yes && shift && continue ;;
    esac
    [[ $# -ge 2 ]] || fail "$1: expected a value; see tools/gpu_campaign.sh --help"
    case "$1" in
        --wheels) wheels="$2" ;;
        --data) data="$2" ;;
        --parts) parts="$2" ;;
        --out) out="$2" ;;
        --work) work="$2" ;;
        --limit) limit="$2" ;;
        --device) device="$2" ;;
        --python) python="$2" ;;
        *) fail "unknown option $1; see tools/gpu_campaign.sh --help" ;;
    esac
    shift 2
done
command="${1:-}"
[[ "$command" =~ ^(check|benchmark|bench)$ ]] || { usage >&2; fail "expected check, benchmark or bench, but got '$command'"; }
shift
[[ "$command" != bench || $# -ge 1 ]] || fail "bench: expected the name of a suite; see noisybench list suites"
[[ "$limit" =~ ^([1-9][0-9]{0,5})(s|m|h)$ ]] || fail "--limit: expected a time such as 90s, 9m or 1h, but got '$limit'"
case "${BASH_REMATCH[2]}" in s) unit=1 ;; m) unit=60 ;; *) unit=3600 ;; esac
end=$((SECONDS + BASH_REMATCH[1] * unit))
[[ "$device" =~ ^(cuda|cpu)$ ]] || fail "--device: expected cuda or cpu, but got '$device'"
[[ -z "$wheels" || -d "$wheels" ]] || fail "--wheels: $wheels is not a folder"
[[ -z "$parts" || -d "$parts" ]] || fail "--parts: $parts is not a folder"
for name in train.parquet test.parquet CIFAR-10_human.pt; do
    [[ -z "$data" || -f "$data/$name" ]] || fail "--data: $data/$name is missing"
done

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
mkdir -p "$out" "$work/exported"
out="$(cd "$out" && pwd)" work="$(cd "$work" && pwd)"
[[ -z "$parts" ]] || parts="$(cd "$parts" && pwd)"
# Paths of suites are those of the caller's folder.
[[ "$command" != bench || ! -f "$1" ]] || set -- "$(cd "$(dirname "$1")" && pwd)/$(basename "$1")" "${@:2}"
if [[ -n "$data" ]]; then
    mkdir -p "$work/data"
    ln -sfn "$(cd "$data" && pwd)" "$work/data/cifar10"
fi
site="$work/site"
export PYTHONPATH="$repository:$site${PYTHONPATH:+:$PYTHONPATH}"
export NOISYBENCH_CACHE="$work/cache"
# The store lies in the working folder, also where the machine has another one.
unset MLFLOW_TRACKING_URI

note() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
noisybench() { (cd "$work" && exec "$python" -m noisybench "$@"); }

install_wheels() {
    local found=("$wheels"/*.whl) names
    [[ -f "${found[0]}" ]] || fail "--wheels: $wheels has no wheels"
    names="$(printf '%s\n' "${found[@]##*/}")"
    [[ -f "$work/installed" && "$(<"$work/installed")" == "$names" ]] && return
    rm -rf "$site"
    # Without compilation, which takes longer than the modules that are imported need.
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check \
        --root-user-action ignore --target "$site" "${found[@]}"
    printf '%s' "$names" >"$work/installed"
}

check_device() {
    "$python" - "$device" <<'END'
import os, platform, subprocess, sys
start = f"python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores"
if sys.argv[1] == "cpu":
    print(f"{start}, CPU as requested")
    sys.exit()
try:
    import torch
except ImportError as error:
    sys.exit(f"error: torch cannot be imported by {sys.executable}: {error}")
try:
    query = ["nvidia-smi", "--query-gpu=driver_version,utilization.gpu,memory.used", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip() or "no answer"
except (OSError, subprocess.TimeoutExpired) as error:
    driver = f"nvidia-smi: {error}"
if not torch.cuda.is_available():
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs only"
    sys.exit(f"error: torch {torch.__version__} sees no GPU here: it is {build}; driver: {driver}; --device cpu tries the script")
device = torch.cuda.get_device_properties(0)
free, total = torch.cuda.mem_get_info()
torch.ones(8, device="cuda").sum().item()
print(f"{start}, torch {torch.__version__}\n{device.name}, {total / 2**30:.1f} GiB ({free / 2**30:.1f} free), driver, load and memory: {driver}")
END
}

import_parts() {
    local files=("$parts"/*.zip)
    [[ -f "${files[0]}" ]] || { note "no earlier parts in $parts"; return; }
    noisybench runs import "${files[@]}" || return
    cp "${files[@]}" "$work/exported/"
}

export_runs() {
    local known=("$work"/exported/*.zip) options=() status=0 files file
    [[ -z "$checkpoints" ]] || options+=(--checkpoints)
    if [[ -f "${known[0]}" ]]; then
        for file in "${known[@]}"; do options+=(--without "$file"); done
    fi
    noisybench runs export -o "$out/part-$(date -u +%Y%m%dT%H%M%S).zip" --max-size 15M "${options[@]}" || status=$?
    files=("$out"/part-*.zip)
    [[ -f "${files[0]}" ]] || return "$status"
    cp "${files[@]}" "$work/exported/"
    [[ ${#files[@]} -lt $max_files ]] || note "$out has ${#files[@]} files: bring them home before the next part"
    return "$status"
}

# Signals of a scheduler stop the training at the end of an epoch, and the export follows.
child=""
trap '[[ -z "$child" ]] || kill -TERM "$child" 2>/dev/null || true' TERM INT USR1

train() {
    local seconds=$((end - SECONDS - export_seconds)) status=0
    [[ $seconds -ge 10 ]] || fail "--limit: $limit leaves no time to train; installing and importing took $SECONDS s"
    note "bench $* for $seconds s"
    # A command that does not keep its limit is ended, so that the export still has its time.
    (cd "$work" && exec timeout --kill-after 10 "$((seconds + 5))" \
        "$python" -m noisybench bench "$@" "execution.device=$device" --time-limit "${seconds}s") &
    child=$!
    # A signal ends `wait` before the command has ended.
    while :; do
        status=0
        wait "$child" || status=$?
        [[ $status -gt 128 ]] && kill -0 "$child" 2>/dev/null || break
    done
    child=""
    note "bench ended with status $status"
    return "$status"
}

# The numbers of each finished group are in the file when the time is over.
measure() {
    local seconds=$((end - SECONDS)) status=0
    [[ $seconds -ge 1 ]] || fail "--limit: $limit leaves no time to measure; installing took $SECONDS s"
    (cd "$repository" && exec timeout --kill-after 10 "$seconds" \
        "$python" -m tests.performance.gpu "$@" --output "$out/benchmark.json") || status=$?
    note "benchmark ended with status $status"
    return "$status"
}

# A process of its own writes the log, which signals must not end before the export.
exec > >(trap '' TERM INT USR1; exec tee -a "$out/log.txt") 2>&1
log=$!
trap 'exec >&- 2>&-; wait "$log"' EXIT

installation=""
if [[ -n "$wheels" ]]; then
    install_wheels &
    installation=$!
fi
check_device || exit 1
[[ -z "$installation" ]] || wait "$installation" || fail "--wheels: the wheels cannot be installed"
note "ready"
status=0
case "$command" in
    benchmark) measure "$@" || status=$? ;;
    bench)
        [[ -z "$parts" ]] || import_parts || fail "--parts: the earlier parts cannot be imported"
        train "$@" || status=$?
        export_runs || { exported=$?; [[ $status -ne 0 ]] || status=$exported; }
        note "done; files are in $out"
        ;;
esac
exit "$status"
