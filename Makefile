# Needs Python 3.11 or newer, pip and make; everything else is set up in .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test check bench format clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# A stamp, not the folder: a half-finished installation does not count as done.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	$(BIN)/python -m compileall -q core plugins  # as an installed package is; a start costs a fifth less
	@touch $@

demo: $(READY)  ## see which agent made which call, with real LangChain and CrewAI agents
	@$(BIN)/python examples/quickstart.py

test: $(READY)  ## run every test
	$(BIN)/python -m pytest

check: $(READY)  ## check format, lint, types and who may import whom
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## measure what an admission costs, against the bars
	@$(BIN)/python benchmarks/run.py

format: $(READY)  ## rewrite the code in the house style
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:  ## remove the environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
