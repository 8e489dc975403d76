# make study: the default study, from a clone to scaling curves.   make test: every check.
# make proofs: the slow checks.   make parity: blocks of ours against the library transformers.
# All first set up .venv, once. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
STUDY := multirun/mnist1d/$(shell date +%Y-%m-%d_%H-%M-%S)

.PHONY: study test proofs parity

study: .venv/installed
	$(BIN)/smallnets -m +experiment=mnist1d hydra.sweep.dir=$(STUDY)

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest -n auto

proofs: .venv/installed
	$(BIN)/pytest -n auto -m slow

parity: .venv/parity
	$(BIN)/pytest -m parity

.venv/parity: .venv/installed
	$(BIN)/pip install --disable-pip-version-check --no-build-isolation --editable .[parity]
	@touch $@

.venv/installed: requirements.lock pyproject.toml
	@echo "smallnets: setting up .venv, once (1.6 GB; a minute or two)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "smallnets: .venv is ready"
