# Each target does its own set-up: on a fresh machine `make train` or `make test` is all there is to type.
PYTHON ?= python3
CONFIG ?= configs/georeg_sim.py
ARGS ?=
WORKDIR ?= runs/georeg_sim
WORKERS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
SYSTEM ?= georeg
# The constraints pin the versions that the numbers in docs/results.md were measured with.
CONSTRAINTS := $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")')

.PHONY: train eval demo test test-all lint bench results-check fuzz docs setup clean help

help:
	@echo "make train [CONFIG=configs/georeg_sim.py] [ARGS='--train.steps 100']   train a system"
	@echo "make eval WORKDIR=runs/georeg_sim                                     evaluate it on val (ARGS='--split test')"
	@echo "make demo [SYSTEM=georeg]                                             shipped weights, simulated worlds, a report"
	@echo "make test | test-all | lint | bench | docs                            checks, benchmarks, the site"
	@echo "make results-check                                                    do the cheap numbers of docs/results.md come again?"
	@echo "make fuzz [ARGS='--mutations 100000']                                 damaged files for every reader"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("posejax needs Python >= 3.11; this is %d.%d. Try: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[test]'
	@touch $@

train: $(STAMP)
	$(PY) train_main.py --config $(CONFIG) $(ARGS)

eval: $(STAMP)
	$(PY) eval_main.py --workdir $(WORKDIR) $(ARGS)

demo: $(STAMP)
	$(PY) -m posejax demo $(SYSTEM) $(ARGS)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

test: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m pytest -n $(WORKERS) -m "not slow" $(ARGS)

test-all: lint docs
	$(PY) -m pytest -n $(WORKERS) $(ARGS)

bench: $(STAMP)
	$(PY) -m benchmarks.run $(ARGS)

results-check: $(STAMP)
	$(PY) -m benchmarks.results_check $(ARGS)

fuzz: $(STAMP)
	JAX_PLATFORMS=cpu $(PY) -m tests.fuzz $(ARGS)

$(DOCS_STAMP): $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[docs]'
	@touch $@

# Strict: a broken link or a name without a target ends it.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "built build/site/index.html; with search: $(PY) -m http.server -d build/site"

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis
