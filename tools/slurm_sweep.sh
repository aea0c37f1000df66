#!/usr/bin/env bash
# sbatch --array=0-11 --gres=gpu:1 [options of sbatch] tools/slurm_sweep.sh LIST
# Task i of the array runs line i + 1 of a list of commands that tools/sweep.py wrote. Do not write the list anew while tasks wait.
set -euo pipefail
list=${1:?usage: sbatch --array=0-N tools/slurm_sweep.sh LIST}
line=$((${SLURM_ARRAY_TASK_ID:?no task of a slurm array: sbatch --array=0-N} + 1))
command=$(sed -n "${line}p" "$list")
if [ -z "$command" ]; then echo "error: $list has no line $line" >&2; exit 1; fi
exec sh -c "$command"
