#!/usr/bin/env bash
# What this machine's GPU gives, in one command of at most eight minutes: benchmarks/results/gpu_NAME.json.
#
#     benchmarks/gpu/run.sh [options of measure.py]
#
# It needs torch, torchvision, onnxruntime and segment_anything, and no ROS. TensorRT is measured where it is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
unset PYTHONSAFEPATH # the package is taken from the checkout
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} exec "${PYTHON:-python3}" benchmarks/gpu/measure.py "$@"
