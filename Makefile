# Two commands do everything: `make run` (first time: installs, then commit to production) and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
# Threads of a test that wait must sleep, not spin: two of them share two cores.
export OMP_WAIT_POLICY ?= PASSIVE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help run stop clean test test-fast lint bench

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

run: .venv/run.ready ## release the sample model from HEAD to production; the platform then goes on in the background
	@llmops run

stop: ## end the platform that `make run` left running
	@if [ -x $(BIN)/llmops ]; then llmops stop; fi

clean: stop ## remove the platform's state (.llmops): artefacts, registry, ledger, logs
	@rm -rf "$${LLMOPS_HOME:-.llmops}"

test: test-fast ## all tests, the whole story included
	@pytest -m slow -n 2 --dist loadfile

test-fast: .venv/dev.ready ## tests without those that train a model or start the platform
	@pytest -m "not slow" -n 2 --dist loadfile

lint: .venv/dev.ready ## formatting, style, types, layers
	@ruff format --check . && ruff check . && pyright && lint-imports

bench: .venv/dev.ready ## every figure this project claims, beside its peer
	@for program in benchmarks/*.py; do echo "== $$program"; python $$program || exit 1; done

# pip picks torch, because which build is right depends on the machine; the lock holds everything else, with hashes.
# A machine without GPU saves some gigabytes with TORCH_INDEX=https://download.pytorch.org/whl/cpu
.venv/torch.ready: requirements/torch.txt
	@echo "Installing Python packages into .venv (once; one to four minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make run PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -r requirements/torch.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.venv/run.ready: .venv/torch.ready requirements/run.lock pyproject.toml
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements/run.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.venv/dev.ready: .venv/run.ready requirements/dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements/dev.lock
	@touch $@
