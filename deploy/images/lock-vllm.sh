#!/usr/bin/env bash
# Rewrites vllm-guests.lock: of our packages those that the program in a pod and the evaluation import, in the versions of
# requirements/run.lock, for the Python of vLLM's image.
set -euo pipefail
cd "$(dirname "$0")/../.."
uv=${UV:-.venv/bin/uv}
flags=(--quiet --no-config --generate-hashes --no-annotate --python-version 3.12 --python-platform x86_64-manylinux_2_28)
flags+=(--only-binary :all: --constraint requirements/run.lock --custom-compile-command deploy/images/lock-vllm.sh)
printf '%s\n' aiohttp boto3 dagster-pipes numpy pydantic | "$uv" pip compile "${flags[@]}" - -o deploy/images/vllm-guests.lock
