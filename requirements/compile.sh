#!/usr/bin/env bash
# Rewrites the two locks from pyproject.toml. torch and the CUDA packages it names are left out: which build is right
# depends on the machine, so requirements/torch.txt pins torch alone and pip picks the build (see the Makefile). The
# notes of who needs what stay in: fingerprints of recipes read them (llmops_core/code_closure.py).
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
skip=(torch triton cuda-bindings cuda-pathfinder cuda-toolkit)
for part in cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 \
  nccl-cu13 nvjitlink nvshmem-cu13 nvtx; do skip+=("nvidia-$part"); done
flags=(--quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command requirements/compile.sh)
for name in "${skip[@]}"; do flags+=(--no-emit-package "$name"); done
"$uv" pip compile "${flags[@]}" pyproject.toml -o requirements/run.lock
"$uv" pip compile "${flags[@]}" --constraint requirements/run.lock --extra dev pyproject.toml -o requirements/dev.lock
