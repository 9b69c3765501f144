# `make` without a target lists all targets.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: screenshots reference bench profile soak help run test test-fast campaigns coverage lint format types check demo fuzz image supply-chain contract contract-short clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1|/' | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

ENV_FILE = $(if $(wildcard .env),--env-file .env)
run: $(VENV)/.installed ## start the portal on :8080, with the settings in .env, if there is one, and its data in data/ and packages/
	@$(BIN)/python portal.py $(ENV_FILE) serve

demo: $(VENV)/.installed ## fill a portal without apps with an example catalogue
	@$(BIN)/python portal.py $(ENV_FILE) demo

# The tests start some hundred Python programs, and each would compile its modules again.
unexport PYTHONDONTWRITEBYTECODE

test: $(VENV)/.installed-test ## run the tests (four minutes on two cores)
	@$(BIN)/python -m pytest -n auto

test-fast: $(VENV)/.installed-test ## run the tests that start no processes (two minutes on two cores): for every change
	@$(BIN)/python -m pytest -n auto -m "not slow and not campaign"

screenshots: $(VENV)/.installed-test ## every page at 360 and 1280 pixels, light and dark, into build/screenshots/ (needs chromium and chromedriver)
	@SCREENSHOTS=yes $(BIN)/python -m pytest -n 0 tests/e2e/test_accessibility.py

campaigns: $(VENV)/.installed-test ## kills, power cuts, fuzz and long property runs: every short form of the suite at its full length (hours)
	@HYPOTHESIS_PROFILE=campaign SEED=random $(BIN)/python -m pytest -n 1 -m campaign --timeout 7200
	@HYPOTHESIS_PROFILE=campaign $(BIN)/python -m pytest -n auto -m "not slow and not campaign" --timeout 3600
	@$(BIN)/python bench/slow_clients.py
	@$(MAKE) contract

coverage: $(VENV)/.installed-test ## run the tests and show the code they do not reach; fails below the bound in setup.cfg
	@$(BIN)/python -m coverage erase && $(BIN)/python -m coverage run -m pytest -n auto -m "not slow and not campaign"
	@$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage report

lint: $(VENV)/.installed-lint ## check the code for common mistakes and its format (`make format` corrects it)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/.installed-lint ## format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: $(VENV)/.installed-lint ## check the types
	@$(BIN)/mypy

check: lint types test ## everything that must pass before a commit

reference: $(VENV)/.installed ## write the tables of docs/PACKAGES.md from the rules of the checks
	@$(BIN)/python -m mosis.packages.reference

SECONDS ?= 600
fuzz: $(VENV)/.installed-test ## read damaged packages, and compare accepted ones with other ZIP readers: make fuzz SECONDS=600
	@$(BIN)/python -m bench.fuzz --seconds $(SECONDS)

bench: $(VENV)/.installed-test ## compare the portal with other stacks: writes bench/results-*.md (needs wrk, go, nginx, node; half an hour)
	@$(BIN)/python -m bench.compare --write bench
	@$(BIN)/python -m bench.compare --apps 100000 --only go --write bench

profile: $(VENV)/.installed-test ## a flame graph of the server under a mixed load: profile.svg
	@$(BIN)/python -m pip install -q --disable-pip-version-check py-spy && $(BIN)/python -m bench.profile

soak: $(VENV)/.installed-test ## an hour of mixed load: does memory grow?
	@$(BIN)/python -m bench.soak --minutes 60

IMAGE ?= mosis-portal
ENGINE ?= $(notdir $(firstword $(shell command -v docker podman)))
# Without it podman leaves out the health check, which OCI's own format has no place for.
FORMAT = $(if $(findstring podman,$(ENGINE)),--format docker)
VERSION_OF_SETUP = $(shell sed -n 's/^version = //p' setup.cfg)
image: ## build the container image and print its compressed size, without and with Litestream: make image ENGINE=podman
	@test -n "$(ENGINE)" || { echo "Docker or podman is needed: make image ENGINE=/path/to/it"; exit 1; }
	@for target in portal portal-with-litestream; do \
		$(ENGINE) build $(FORMAT) $(BUILD_FLAGS) --target $$target --build-arg VERSION=$(VERSION_OF_SETUP) \
			--build-arg REVISION=$$(git rev-parse --short HEAD 2>/dev/null || echo unknown) \
			-t $(IMAGE):$(VERSION_OF_SETUP)$$(test $$target != portal || echo -plain) . || exit 1; \
	done
	@for tag in $(VERSION_OF_SETUP)-plain $(VERSION_OF_SETUP); do \
		echo "$(IMAGE):$$tag  $$($(ENGINE) save $(IMAGE):$$tag | gzip | wc -c | awk '{printf "%.1f MB compressed", $$1 / 1e6}')"; \
	done

CONTRACT = .cache/contract
contract: $(CONTRACT)/.installed ## try the running portal with 20,000 generated requests and a generated client (ten minutes)
	@$(CONTRACT)/bin/python -m tests.contract.run

contract-short: $(CONTRACT)/.installed ## the same with a few thousand requests (half a minute)
	@$(CONTRACT)/bin/python -m tests.contract.run --short

$(CONTRACT)/.installed: setup.cfg pyproject.toml
	@mkdir -p .cache && test -x $(CONTRACT)/bin/python || $(PYTHON) -m venv $(CONTRACT)
	@$(CONTRACT)/bin/python -m pip install -q --disable-pip-version-check -e '.[contract]' && touch $@

SUPPLY = .cache/supply-chain
supply-chain: ## pin the dependencies with hashes, list them (CycloneDX), look for known vulnerabilities and for careless code
	@mkdir -p .cache && test -x $(SUPPLY)/bin/uv || { $(PYTHON) -m venv $(SUPPLY) && \
		$(SUPPLY)/bin/python -m pip install -q --disable-pip-version-check uv pip-audit bandit cyclonedx-bom; }
	@$(SUPPLY)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra live --extra objects setup.cfg \
		-o requirements.txt
	@$(SUPPLY)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements-litestream.in \
		-o requirements-litestream.txt
	@echo "requirements.txt and requirements-litestream.txt hold what the image installs; remove them first to have newer versions"
	@mkdir -p build && cat requirements.txt requirements-litestream.txt | \
		$(SUPPLY)/bin/cyclonedx-py requirements - --output-reproducible --of JSON -o build/sbom.cyclonedx.json
	@echo "build/sbom.cyclonedx.json lists them"
	@$(SUPPLY)/bin/bandit -q -c pyproject.toml -r mosis portal.py image && echo "bandit has no finding"
	@$(SUPPLY)/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements.txt -r requirements-litestream.txt

clean: ## remove the virtual environment and caches; data stays
	rm -rf $(VENV) build .coverage* *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .cache

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
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,browser]' && touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: setup.cfg pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,browser,lint]' && touch $@ $(VENV)/.installed
