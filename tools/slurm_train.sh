#!/usr/bin/env bash
# [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]
# WARNING (120) seconds before its time limit a training writes a checkpoint, and the script ends with status 75; the same
# command with --resume goes on there. With REQUEUE=1 the job is submitted with sbatch instead, and goes on by itself.
set -euo pipefail
usage='usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options]'
partition=${1:?$usage}; job=${2:?$usage}; config=${3:?$usage}; work_dir=${4:?$usage}
gpus=${GPUS:-8}; gpus_per_node=${GPUS_PER_NODE:-8}
here=$(cd "$(dirname "$0")" && pwd)
resources=(-p "$partition" --job-name="$job" --gres="gpu:$gpus_per_node" --ntasks="$gpus" --ntasks-per-node="$gpus_per_node"
  --cpus-per-task="${CPUS_PER_TASK:-5}" --signal="USR1@${WARNING:-120}")
train=("${PYTHON:-python}" -u "$here/train.py" "$config" --work-dir="$work_dir" --launcher=slurm "${@:5}")
if [ -z "${REQUEUE:-}" ]; then
  # shellcheck disable=SC2086  # SRUN_ARGS is a list of words
  exec srun "${resources[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} "${train[@]}"
fi
# scancel ends this shell, too: a job that is cancelled is not queued again
printf -v step '%q ' srun --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 "${train[@]}"
# shellcheck disable=SC2086
exec sbatch "${resources[@]}" --requeue --open-mode=append ${SRUN_ARGS:-} --wrap \
  "status=0; $step \${SLURM_RESTART_COUNT:+--resume} || status=\$?
if [ \$status = 75 ]; then scontrol requeue \$SLURM_JOB_ID; fi
exit \$status"
