# heed: two commands on a bare machine (python3, make): `make demo` and `make test`.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
READY := .venv/.ready
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help setup demo real bench test check lint types lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(READY) ## make the environment in .venv (about two minutes)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v < (3, 14); sys.exit(0 if ok else "heed needs Python 3.11 to 3.13, this is %d.%d. Give another one: make setup PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(READY)

demo: $(READY) ## 12 small runs and a page with verdicts; no download, no account
	$(BIN)/python sweep.py study=playground hydra/launcher=joblib hydra.launcher.n_jobs=2

real: $(READY) ## a small student on real books, a real teacher and IFEval (needs the data folder)
	$(BIN)/python train.py experiment=real_small

bench: $(READY) ## training: heed beside TRL and plain loops (about an hour; more: bench/train.py --help)
	$(BIN)/python bench/train.py

test: $(READY) ## all tests, by two processes (WORKERS=0: in this one)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: lint types ## format, lint, types and the quick tests
	$(BIN)/python -m pytest -m "not slow"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

lock: $(READY) ## write requirements.lock from what is installed
	(echo "# Exact versions of a working installation (Python 3.11, Linux). Made by: make lock"; \
	 $(BIN)/pip freeze --exclude-editable | sed 's/^torch==.*/torch==2.13.0/') > requirements.lock

clean: ## remove the environment; outputs are kept
	rm -rf .venv
