# `make` alone is the manual.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: bench profile soak help run test lint types check demo fuzz clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1|/' | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

run: $(VENV)/.installed ## start the portal on :8080, with its data in data/ and packages/ of this folder
	@$(BIN)/python portal.py serve

demo: $(VENV)/.installed ## fill an empty portal with a catalogue to look around in
	@$(BIN)/python portal.py demo

test: $(VENV)/.installed-test ## pass the tests
	@$(BIN)/python -m pytest

lint: $(VENV)/.installed-lint ## read the code for common mistakes
	@$(BIN)/ruff check .

types: $(VENV)/.installed-lint ## check the types
	@$(BIN)/mypy

check: lint types test ## everything that must be green before a commit

SECONDS ?= 600
fuzz: $(VENV)/.installed-test ## throw spoiled packages at their readers: make fuzz SECONDS=600
	@$(BIN)/python -m bench.fuzz --seconds $(SECONDS)

bench: $(VENV)/.installed-test ## the portal beside other stacks: writes bench/results-*.md (needs wrk, go, node)
	@$(BIN)/python -m bench.compare --write bench

profile: $(VENV)/.installed-test ## a flame graph of the server under a mixed load: profile.svg
	@$(BIN)/python -m pip install -q --disable-pip-version-check py-spy && $(BIN)/python -m bench.profile

soak: $(VENV)/.installed-test ## an hour of mixed load: does memory grow?
	@$(BIN)/python -m bench.soak --minutes 60

clean: ## remove the virtual environment and caches; data stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .cache

# The virtual environment. Where the system's Python comes without venv, one line says what to install.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed: install it, or name it: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python has no venv here: apt-get install python3-venv (Debian) or apk add python3 (Alpine)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) ..." && $(BIN)/python -m pip install -q --disable-pip-version-check -e . && touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]' && touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: setup.cfg pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,lint]' && touch $@ $(VENV)/.installed
