VENV ?= .venv
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.requirements-installed
ARGS ?=
NEW_ENOUGH = import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python {v[0]}.{v[1]} is too old: run make with PYTHON=python3.11 or newer.")

# The networks are small: one thread per process is faster than several that wait for each other.
export OMP_NUM_THREADS ?= 1

.PHONY: help install train test test-slow lint bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'ARGS="..." adds arguments, VENV=folder installs into and uses another environment, PYTHON=python3.12 another Python.'

install: $(INSTALLED) ## create .venv with the exact requirements (again only when requirements.txt changes)

$(INSTALLED): requirements.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || { $(PYTHON) -c '$(NEW_ENOUGH)' && $(PYTHON) -m venv $(VENV); }
	$(PY) -m pip install "$$(head -n 1 requirements.txt)"
	$(PY) -m pip install -r requirements.txt
	@touch $@

train: install ## train the RBC economy on the CPU and write a report into runs/
	$(PY) -m rllib_macro train tune_configs/rbc_quick.yaml $(ARGS)

test: install ## run the tests that need neither a GPU nor a full training
	$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: install ## run full trainings and kills, one after the other
	$(PY) -m pytest -m "slow and not gpu" $(ARGS)

lint: install ## check style (ruff) and types (mypy)
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: install ## measure speed against stock RLlib and a bare PyTorch loop
	$(PY) -m rllib_macro bench rbc $(ARGS)

clean: ## remove caches and build outputs; runs/ and the environment stay
	rm -rf build dist *.egg-info __pycache__ .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find kernels envs rllib_macro tutorials tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find tutorials -name .ipynb_checkpoints -prune -exec rm -rf {} + 2>/dev/null || true
	@echo 'Kept runs/ (your results) and $(VENV); delete them by hand if you no longer need them.'
