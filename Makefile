# The commands of the house. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= demo/demo.toml
PORT ?= 4200
SECONDS ?= 60
EXTRAS ?= dev
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak fuzz lint format pages bench up down lock hashes audit clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/.installed: pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) at the versions of requirements.lock ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[$(EXTRAS)]"
	@touch $@

setup: $(BIN)/.installed ## make .venv and install everything at pinned versions

demo: $(BIN)/.installed ## the whole lifecycle on the demo corpus, raw text to answers
	@$(BIN)/slimpajama demo-corpus demo
	@$(BIN)/slimpajama run --config demo/demo.toml

$(BIN)/.installed-for-tests: $(BIN)/.installed
	@echo "installing what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[test]"
	@sh infra/browser.sh
	@touch $@

test: $(BIN)/.installed-for-tests ## every test
	@$(BIN)/python -m pytest tests/unit --numprocesses 2 --dist loadfile
	@$(BIN)/python -m pytest tests/e2e --numprocesses 2 --dist loadfile

soak: $(BIN)/.installed ## kill, break and attack it for hours; writes docs/reliability.md
	@$(BIN)/python -m benchmarks.soak
	@$(BIN)/python -m benchmarks.attacks

fuzz: $(BIN)/.installed ## look for inputs that break it (Linux), SECONDS=60 of each
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[fuzz]"
	@$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

lint: $(BIN)/.installed ## ruff, mypy, import contracts, lengths of files and functions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python infra/house.py

format: $(BIN)/.installed ## let ruff format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

pages: $(BIN)/.installed ## write build/bad-inputs.md: what becomes of every bad input
	@$(BIN)/python tests/unit/bad_inputs.py

bench: $(BIN)/.installed ## measure everything; writes docs/benchmarks
	@$(BIN)/python -m benchmarks.lifecycle
	@$(BIN)/python -m benchmarks.dedup
	@$(BIN)/python -m benchmarks.corpus
	@$(BIN)/python -m benchmarks.encodings
	@$(BIN)/python -m benchmarks.pages
	@$(BIN)/python -m benchmarks.memory --gb 1 10
	@$(BIN)/python -m benchmarks.compress
	@$(BIN)/python -m benchmarks.model
	@$(BIN)/python -m benchmarks.lookup
	@$(BIN)/python -m benchmarks.training
	@$(BIN)/python -m benchmarks.applications
	@$(BIN)/python -m benchmarks.operation
	@if command -v chromium >/dev/null; then $(BIN)/python -m benchmarks.ui; fi

up: $(BIN)/.installed ## start Prefect's server (with a password), worker and deployments here
	@BIN=$(BIN) PORT=$(PORT) CONFIG=$(CONFIG) sh infra/local/up.sh

down: ## stop exactly what `make up` started
	@sh infra/local/down.sh

lock: $(BIN)/.installed ## resolve the ranges of pyproject.toml into requirements.lock anew
	@$(BIN)/pip-compile --quiet --all-extras --strip-extras --no-header --no-annotate --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade-package torch==2.13.0 -o requirements.lock pyproject.toml
	@sed -i.bak -E -e 's/^(torch==[0-9.]+)\+[a-z0-9]+$$/\1/' -e '/^slimpajama @/d' requirements.lock && rm requirements.lock.bak

hashes: $(BIN)/.installed ## write requirements.hashes.txt from your index's files
	@$(BIN)/pip-compile --quiet --generate-hashes --no-header --no-annotate --allow-unsafe -c requirements.lock \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements.hashes.txt pyproject.toml

audit: $(BIN)/.installed ## build/sbom.cdx.json, and known holes of the pinned versions
	@test -x build/audit/bin/pip-audit || $(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@build/audit/bin/python infra/audit.py $(BIN)/python

clean: ## remove the environment, the demo and caches
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
