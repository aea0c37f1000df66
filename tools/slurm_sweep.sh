#!/usr/bin/env bash
#SBATCH --signal=USR1@120 --requeue --open-mode=append
# sbatch --array=0-11 --gres=gpu:1 [options of sbatch] tools/slurm_sweep.sh LIST
# Task i of the array runs line i + 1 of a list of commands that tools/sweep.py wrote. Do not write the list anew while tasks wait.
# 120 seconds before its time limit a training writes a checkpoint, and its task queues itself again and goes on there.
set -euo pipefail
list=${1:?usage: sbatch --array=0-N tools/slurm_sweep.sh LIST}
line=$((${SLURM_ARRAY_TASK_ID:?no task of a slurm array: sbatch --array=0-N} + 1))
command=$(sed -n "${line}p" "$list")
if [ -z "$command" ]; then echo "error: $list has no line $line" >&2; exit 1; fi
status=0
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} sh -c "$command" || status=$?  # only steps get the signal
if [ $status = 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
