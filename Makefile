# The verbs. Everything they need is made by `delivery` itself; only python3 (3.11 to 3.14), git and make come before.
.DEFAULT_GOAL := help
SHELL := /bin/sh
# The first that will do: a Mac's own python3 is older, and another may stand beside it.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(or $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done),python3)
BIN := .venv/bin

.PHONY: help demo up down test lint chart actions e2e e2e-second e2e-races e2e-ci e2e-online bench doctor report pin lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/ready ## from a bare machine to the same digest in dev, stage and prod, proven; leaves the cluster running
	@$(BIN)/delivery demo

up: .venv/ready ## the platform alone: kind, Argo CD, registry, Git server
	@$(BIN)/delivery up

down: .venv/ready ## remove it all; stops Docker if it was started from here
	@$(BIN)/delivery down
	@DELIVERY_SITE=e2e $(BIN)/delivery down

test: .venv/ready ## the fast tests, no Docker: about ten minutes on two cores
	@$(BIN)/python -m pytest -n 3 -m 'not slow'

lint: .venv/ready ## style and types, and that what follows from pipeline.yaml is as it says
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/delivery generate --check

chart: .venv/ready ## what CI asks of the chart: it lints, and renders for each environment
	@$(BIN)/delivery ci --chart

ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
actions: ## the GitHub workflows, by actionlint (a Go module; needs go)
	@go run $(ACTIONLINT)

APART := --ignore=e2e/ci --ignore=e2e/test_second_site.py --ignore=e2e/test_concurrency.py
e2e: .venv/ready ## from a bare machine to all tests passed, on a cluster of its own
	@$(BIN)/python -m pytest e2e $(APART) $(E2E)
	@$(BIN)/python -m pytest -n 3

e2e-second: .venv/ready ## journeys of a second site: TLS, tokens, prod in a cluster of its own (root on Linux)
	@$(BIN)/python -m pytest e2e/test_second_site.py $(E2E)

e2e-races: .venv/ready ## two people and CI at once on the live platform, 50 rounds (about an hour)
	@$(BIN)/python -m pytest e2e/test_concurrency.py --races 50 $(E2E)

e2e-ci: .venv/ready ## the CI systems' own files, run by their own runners up to prod
	@$(BIN)/python -m pytest e2e/ci $(E2E)

e2e-online: .venv/ready ## the path of a laptop that pulls public images, on a machine that cannot (root on Debian)
	@$(BIN)/python -m e2e.online $(E2E)

bench: .venv/bench ## how fast, as ratios measured in one run, on the cluster of `make demo`: docs/bench, README
	@$(BIN)/python -m e2e.bench $(ROUNDS)

doctor: .venv/ready ## what is there and what is missing
	@$(BIN)/delivery doctor

report: .venv/ready ## the pipeline as one page: what runs where, its proof, what comes next; live: delivery report --serve
	@$(BIN)/delivery report

pin: .venv/ready ## write today's digests of images and checksums of tools into scripts/local/versions.yaml
	@$(BIN)/delivery pin

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command "make lock"

lock: .venv/ready ## the lock files, after a change of a pyproject.toml; newer versions: make lock UPGRADE=--upgrade
	@$(LOCK) $(UPGRADE) manual-app/pyproject.toml -o manual-app/requirements.lock
	@$(LOCK) $(UPGRADE) pyproject.toml manual-app/pyproject.toml --group dev --group manual-app/pyproject.toml:test \
	  -c manual-app/requirements.lock -o requirements.lock
	@$(LOCK) $(UPGRADE) --group bench -c requirements.lock -o requirements-bench.lock

# A killed run leaves no `ready`, and the next one goes on from there. Where the folder was moved or copied, or
# its python was upgraded away, the environment's own paths lead elsewhere: it is made anew.
$(shell [ "$$(cat .venv/place 2>/dev/null)" = "$$(pwd -P)" ] && $(BIN)/python -c '' 2>/dev/null || rm -f .venv/ready)

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c '$(SUPPORTED)' 2>/dev/null \
	  || { echo "error: python3 of version 3.11, 3.12, 3.13 or 3.14 is needed" >&2; \
	       echo "hint: install one (macOS: brew install python@3.13), or: make PYTHON=/path/to/python3" >&2; exit 4; }
	@$(STEP) "1 of 4: a Python of its own"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && { $(STEP) "1 of 4: apt-get install python3-venv"; } \
	    && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; } \
	  || { echo "error: this python3 has no venv module" >&2; echo "hint: Debian, Ubuntu: apt-get install python3-venv" >&2; exit 4; }
	@[ "$$(cat .venv/place 2>/dev/null)" = "$$(pwd -P)" ] && $(BIN)/python -c 'import pip' 2>/dev/null \
	  || { $(PYTHON) -m venv --clear .venv && pwd -P >.venv/place; }
	@$(STEP) "2 of 4: uv"
	@sed -n '/^uv==/,/^ *#/p' requirements.lock >.venv/uv.lock && $(PIP) --quiet --require-hashes -r .venv/uv.lock
	@$(STEP) "3 of 4: the packages of requirements.lock"
	@$(UV) $(if $(QUIET),2>.venv/uv.log) \
	  || { $(STEP) "3 of 4: the packages of requirements.lock, by pip"; $(PIP) $(QUIET) --require-hashes -r requirements.lock; }
	@$(STEP) "4 of 4: delivery itself"
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q scripts  # also where PYTHONDONTWRITEBYTECODE is set
	@touch $@
	@took=$$(($$(date +%s) - $(BEGAN))); echo " ✓ $(PREPARING) ($$took s)"; \
	  [ $$took -lt 3 ] || { mkdir -p "$(CACHE)" && echo $$took >"$(CACHE)/venv.seconds"; } 2>/dev/null || :

# What the bench alone needs, for whoever runs it.
.venv/bench: .venv/ready requirements-bench.lock
	@echo " • $(PREPARING): what the bench needs"
	@$(PIP) $(QUIET) --require-hashes -r requirements-bench.lock
	@touch $@

PREPARING := Preparing the virtual environment
# On a terminal uv and pip draw how far they are.
QUIET := $(shell [ -t 2 ] || echo --quiet)
# There each step has the time left beside it, if it takes as long as the last time and that is known.
BEGAN := $(shell date +%s)
CACHE = $${XDG_CACHE_HOME:-$$HOME/.cache}/delivery
STEP = step() { left=$$(($$(sed -n '1s/^[1-9][0-9]\{0,3\}$$/&/p' "$(CACHE)/venv.seconds" 2>/dev/null)+0 + $(BEGAN) - $$(date +%s))); \
  about=; [ -n "$(QUIET)" ] || [ $$left -le 0 ] || about=" (about $$left s left)"; echo " • $(PREPARING): $$1$$about"; }; step

PIP := $(BIN)/python -m pip install --disable-pip-version-check
# A fifth of pip's time. It knows no index that pip alone was told of: there, and where it fails, pip does it all.
UV = ! $(BIN)/python -m pip config list | grep -q index && UV_SYSTEM_CERTS=1 UV_HTTP_TIMEOUT=20 \
  $(BIN)/uv pip install $(QUIET) --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
