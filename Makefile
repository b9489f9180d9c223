# The verbs. Everything they need is made by `delivery` itself; only python3 >= 3.11, git and make come before.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo up down test lint e2e bench doctor report pin

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: .venv/ready ## from a bare machine to the same digest in dev, stage and prod, proven; leaves the cluster running
	@$(BIN)/delivery demo

up: .venv/ready ## the platform alone: kind, Argo CD, registry, Git server
	@$(BIN)/delivery up

down: .venv/ready ## remove it all; stops Docker if it was started from here
	@$(BIN)/delivery down
	@DELIVERY_CLUSTER=manual-app-e2e $(BIN)/delivery down

test: .venv/ready ## the fast tests: seconds, no Docker
	@$(BIN)/python -m pytest -n 3 -m 'not slow'

lint: .venv/ready ## style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

e2e: .venv/ready ## from a bare machine to all tests passed, on a cluster of its own
	@$(BIN)/python -m pytest e2e $(E2E)
	@$(BIN)/python -m pytest -n 3

bench: .venv/ready ## how fast, as ratios measured in one run
	@$(BIN)/python -m e2e.bench

doctor: .venv/ready ## what is there and what is missing
	@$(BIN)/delivery doctor

report: .venv/ready ## the proof, the tests and the trail, as one page
	@$(BIN)/delivery report

pin: .venv/ready ## write today's digests of images and checksums of tools into cluster/versions.yaml
	@$(BIN)/delivery pin

# A killed run leaves no `ready`, and the next one goes on from there.
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: python3 >= 3.11 is needed" >&2; echo "hint: install it, or: make PYTHON=/path/to/python3.11" >&2; exit 4; }
	@echo " • Preparing the virtual environment"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; } \
	  || { echo "error: this python3 has no venv module" >&2; echo "hint: apt-get install python3-venv" >&2; exit 4; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
