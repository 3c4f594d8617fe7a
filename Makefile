# Two commands for a fresh clone: `make demo` and `make test`. Needs Python 3.11+ and make, no more.

SHELL := /bin/sh
VENV := .venv
TOOLS := build/tools
SYSTEM_PYTHON := /usr/bin/python3
# The first Python that is new enough and really runs.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PYTEST := $(VENV)/bin/python -m pytest
WORKERS ?= 2

.PHONY: help demo test lint types coverage bench wheel deb image lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## the broker at work on loopback: no account, no root, no configuration
	@$(VENV)/bin/namespace-broker demo

test: $(VENV)/.test ## the whole suite that needs neither root nor other packages
	@$(PYTEST) -n $(WORKERS) $(ARGS)

lint: $(VENV)/.test ## ruff, and the import contracts
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/lint-imports --no-logo

types: $(VENV)/.test ## mypy --strict
	@$(VENV)/bin/mypy

coverage: $(VENV)/.test ## the same suite, with branch coverage of broker/ printed; fails below its floor
	@$(PYTEST) -n $(WORKERS) --cov --cov-report=term $(ARGS)

bench: $(VENV)/.test ## our own numbers, beside a bare server in the same run
	@$(VENV)/bin/python -m bench

wheel: $(TOOLS)/.done ## dist/: wheel and sdist
	@$(TOOLS)/bin/hatchling build -d dist

deb: ## dist/: a Debian package for this machine's system Python
	@$(SYSTEM_PYTHON) -B deploy/debian/build.py

image: ## the container image namespace-broker:VERSION, its base pinned by digest
	@deploy/build_image.sh

lock: $(TOOLS)/.done ## the lock files of image and Debian package, anew from constraints.txt
	@$(TOOLS)/bin/python deploy/lock.py

clean: ## remove what these commands made
	rm -rf $(VENV) dist build

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed; on Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2; exit 1; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv module is missing; install it: sudo apt-get install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }
	@echo "Making $(VENV) (once) ..." >&2
	@$(PYTHON) -m venv $(VENV)

$(TOOLS)/.done: deploy/build.lock
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r deploy/build.lock
	@touch $@

# One install for each set of extras; made again when what is wanted changes.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (once, about a minute) ..." >&2
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (once, a minute or two) ..." >&2
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.demo
