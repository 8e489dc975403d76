# make study: the default study, from nothing to curves.   make test: the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: study test

study: .venv/installed
	$(BIN)/smallnets -m +experiment=mnist1d

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest

.venv/installed: requirements.lock pyproject.toml
	@echo "smallnets: setting up .venv (once, about 700 MB)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --progress-bar on -r requirements.lock
	$(BIN)/pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
