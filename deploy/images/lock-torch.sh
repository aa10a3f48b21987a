#!/usr/bin/env bash
# Rewrites torch-cuda.lock: torch for CUDA 13 and what it brings, for Linux on x86-64, with hashes. All that
# requirements/run.lock holds as well is left out, so that nothing is pinned twice.
# V100: CUDA 13 has no code for Volta. Give the index of a CUDA 12.6 build and another file:
#   deploy/images/lock-torch.sh deploy/images/torch-cu126.lock --index https://download.pytorch.org/whl/cu126
# and build the image with --build-arg TORCH_LOCK=deploy/images/torch-cu126.lock.
set -euo pipefail
cd "$(dirname "$0")/../.."
lock=${1:-deploy/images/torch-cuda.lock}
shift || true
uv=${UV:-.venv/bin/uv}
flags=(--quiet --no-config --generate-hashes --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_28)
flags+=(--only-binary :all: --constraint requirements/run.lock --custom-compile-command deploy/images/lock-torch.sh)
for name in $(sed -nE 's/^([a-z0-9.-]+)==.*/\1/p' requirements/run.lock); do flags+=(--no-emit-package "$name"); done
"$uv" pip compile "${flags[@]}" "$@" requirements/torch.txt -o "$lock"
