#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# On a machine without GPUs the processes run on its CPU. Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail
config=${1:?usage: dist_train.sh CONFIG GPUS [options]}
gpus=${2:?usage: dist_train.sh CONFIG GPUS [options]}
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$gpus" "$here/train.py" "$config" --launcher pytorch "${@:3}"
