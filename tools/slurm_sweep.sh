#!/usr/bin/env bash
# [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] tools/slurm_sweep.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/sweep.py]
# Every GPU does trials of its own; a requeued job goes on where it was stopped.
set -euo pipefail
usage='usage: slurm_sweep.sh PARTITION JOB_NAME CONFIG WORK_DIR [options]'
partition=${1:?$usage}; job=${2:?$usage}; config=${3:?$usage}; work_dir=${4:?$usage}
gpus=${GPUS:-8}; gpus_per_node=${GPUS_PER_NODE:-8}
here=$(cd "$(dirname "$0")" && pwd)
# a failed trial leaves the others be, so no --kill-on-bad-exit
# shellcheck disable=SC2086  # SRUN_ARGS is a list of words
exec srun -p "$partition" --job-name="$job" --gres="gpu:$gpus_per_node" --ntasks="$gpus" --ntasks-per-node="$gpus_per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=0 ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u "$here/sweep.py" "$config" --work-dir="$work_dir" "${@:5}"
