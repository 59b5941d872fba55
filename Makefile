# Two commands do all the set-up on a fresh machine: `make up` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DESK   ?= desks/paper
PYTEST_ARGS ?=

# Thousands of processes load these sources in a run of the tests: they are compiled once.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help env clients conformance up down status test beside lint style types unit pytest compiled runbooks bench lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# The stamp names the lock file it was made from, so a changed lock makes the environment anew.
$(VENV)/.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Openbell needs Python 3.11 or newer; name one with 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "This Python has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "making the environment in $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src
	@touch $@

env: $(VENV)/.stamp ## make the environment from the lock file, hashes checked

up: env ## open the paper desk (DESK=path for another)
	@$(BIN)/openbell --desk $(DESK) up

down: env ## close it: cancel, flatten, reconcile, checkpoint, stop, verify
	@$(BIN)/openbell --desk $(DESK) down --yes

status: env ## show it
	@$(BIN)/openbell --desk $(DESK) status

lint: style types ## ruff, mypy strict, the layers

style: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy
	$(BIN)/lint-imports

# The venues' own clients and two whole applications, each in an environment of its own: their pins
# do not agree with each other.
CLIENTS := vendors freqtrade nautilus
# Their packages' own tests, half of what there is, are not compiled: nothing loads them. What is no code of
# this Python cannot be, and fails where it is loaded.
.venv-%/.stamp: tests/clients/%.lock | env
	@echo "making the environment in .venv-$* (once)"
	@$(PYTHON) -m venv --without-pip .venv-$*
	@$(BIN)/python -m pip --python .venv-$*/bin/python install --quiet --disable-pip-version-check --no-compile --require-hashes -r tests/clients/$*.lock
	@.venv-$*/bin/python -W ignore -m compileall -qq -x '/tests?/' .venv-$*/lib || :
	@touch $@

clients: $(CLIENTS:%=.venv-%/.stamp) ## make the environments of the clients that the simulated venues are tried with

conformance: env ## run the conformance suite and write its table, docs/reference/conformance.md
	OPENBELL_WRITE_CONFORMANCE=1 $(BIN)/python -m pytest -q tests/venues/conformance

# Tests of real processes wait for half of their time: so twice as many run at once as there are cores.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')

unit: env ## the tests alone
	@$(MAKE) --no-print-directory -j 3 clients
	@$(MAKE) --no-print-directory pytest

pytest: env
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# Else each of the processes that share the tests would rewrite and compile all of them.
compiled: env
	@$(BIN)/python -m compileall -q src
	@out=$$($(BIN)/python -m pytest --collect-only -qq -p no:cacheprovider) || { echo "$$out"; exit 1; }

# The style is told within seconds. Types and layers take a minute or more of a core and are checked with what
# the tests leave of it, which wait for processes: `make lint` is for who would know them first.
test: env ## everything: lint, types, layers, tests
	@$(MAKE) --no-print-directory -j 4 style clients compiled
	@$(MAKE) --no-print-directory -j 2 beside pytest

beside: env
	@out=$$(nice -n 19 $(MAKE) --no-print-directory types 2>&1) && echo "types and layers are as they should be" \
	  || { echo "$$out"; exit 1; }

runbooks: env ## write docs/runbooks from the procedures
	$(BIN)/python -m openbell.procedures.runbook docs/runbooks

bench: env ## measure, and write docs/benchmarks.md
	$(BIN)/python -m bench

lock: ## resolve the lock file again (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group dev \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	for name in $(CLIENTS); do uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command "make lock" tests/clients/$$name.in \
	  -o tests/clients/$$name.lock; done

clean: ## remove the environment and the caches
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
