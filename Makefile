# make study: the default study, from a clone to scaling curves.   make test: every quick check (types, then quick).
# make proofs: the slow checks; make sample: a tenth of them.
# make paper: from the frozen rows of paper/ its numbers, tables, figures and, with LaTeX, its PDF.
# make artifact: paper, rows, models, code and every locked package in one archive, after make study
# where its runs are not there: dist/artifact.tar.gz, 480 MB.
# make parity: blocks of ours against the library transformers.
# make versions: the tests with each version of JAX that the library is for, on each Python that is
# here; with -k it goes on after a failure.
# make deploy: the environments of the converters and runtimes that smallnets export calls.
# All first set up .venv, once. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
# Python and JAX. Python 3.11 has no JAX after 0.10.
VERSIONS := 3.11-0.10.2 3.12-0.11.2 3.12-0.12.0 3.12-0.12.0.1 3.13-0.11.2 3.13-0.12.0 3.13-0.12.0.1
PYTHON_OF = python$(firstword $(subst -, ,$*))
JAX_OF = $(lastword $(subst -, ,$*))

.PHONY: study test types quick proofs sample paper artifact parity versions deploy

study: .venv/installed
	$(BIN)/smallnets -m +experiment=mnist1d

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j 2 types quick

types: .venv/installed
	$(BIN)/pyright

quick: .venv/installed
	$(BIN)/pytest -n auto --dist loadfile

proofs: .venv/installed
	$(BIN)/pytest -n auto -m slow

# A tenth of the proofs, drawn by the commit, so that over commits all are run but the long ones.
sample: .venv/installed
	$(BIN)/pytest -n auto -m "slow and not long" --sample $$(git rev-parse HEAD)

paper: .venv/installed
	$(BIN)/smallnets paper build paper

artifact: study
	$(BIN)/smallnets paper artifact paper dist/artifact.tar.gz --wheels dist/wheels \
		--models multirun/mnist1d-mnist1d

parity: .venv/parity
	$(BIN)/pytest -m parity

versions: $(VERSIONS:%=version-%)

version-%:
	@if $(PYTHON_OF) --version >/dev/null 2>&1; \
	then $(MAKE) .venv-$*/installed && .venv-$*/bin/pytest -n auto; \
	else echo "smallnets: $(PYTHON_OF) is not here, so JAX $(JAX_OF) is not tested on it"; fi

.venv-%/installed: requirements.lock pyproject.toml
	$(PYTHON_OF) -m venv .venv-$*
	grep -v '^jax' requirements.lock > .venv-$*/requirements.txt
	.venv-$*/bin/pip install --disable-pip-version-check --requirement .venv-$*/requirements.txt jax==$(JAX_OF)
	.venv-$*/bin/pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Their pins contradict ours and each other's, and each lock was tried as it stands, on Python 3.11.
deploy: .venv-onnx/installed .venv-litert/installed smallnets/deploy/environments/browser/node_modules

.venv-onnx/installed .venv-litert/installed: .venv-%/installed: smallnets/deploy/environments/%.lock
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --disable-pip-version-check --no-deps --requirement smallnets/deploy/environments/$*.lock
	@touch $@

smallnets/deploy/environments/browser/node_modules: smallnets/deploy/environments/browser/package-lock.json
	cd smallnets/deploy/environments/browser && npm ci --no-audit --no-fund
	@touch $@

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
