#!/usr/bin/env bash
# Eight minutes of pretraining on a GPU. It has not been run on one yet.
#
# Where the pictures are, once:      wesam pretrain --pictures FOLDER --scenes FOLDER --pack packed     (40 MB)
#                                    wesam pretrain --out RUN --scenes FOLDER --publish                 (RUN/MODEL.safetensors, 15 MB)
# On the machine with the GPU:       scripts/pretrain_gpu.sh packed RUN/MODEL.safetensors OUT [options of wesam pretrain]
#
# OUT has checkpoint.pt, from which the same command goes on, and the averaged weights as MODEL.safetensors, for another start.
# The last time, give --steps N --last N, with N as many steps as eight minutes have: then the rate falls to zero.
set -euo pipefail
packed=$1 weights=$2 out=$3
shift 3
cd "$(dirname "$0")/.."
mkdir -p "$out"
PYTHONPATH=. python3 -m wesam_ros.cli pretrain --device cuda --makers "$(nproc)" --minutes 8 --batch 6 --pictures "$packed" --sequences 0 \
  --earlier "$weights" --frozen-stages 1 --steps 1000000 --out "$out" "$@" 2>&1 | tee -a "$out/log.txt"
