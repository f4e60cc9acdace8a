# Needs Python 3.11 or newer, pip and make; everything else is set up in .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest

.PHONY: help demo test test-lowest check bench format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# A stamp, not the folder: a half-finished installation does not count as done.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	$(BIN)/python -m compileall -q core plugins  # as an installed package is; a start costs a fifth less
	@touch $@

$(LOWEST)/.ready: pyproject.toml tests/lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(LOWEST)/bin/python -m pip install --quiet --constraint tests/lowest.txt --editable . --group dev
	@touch $@

demo: $(READY)  ## see which agent made which call, with real LangChain and CrewAI agents
	@$(BIN)/python examples/quickstart.py

test: $(READY)  ## run every test
	$(BIN)/python -m pytest

test-lowest: $(LOWEST)/.ready  ## run the plugins' tests with the lowest versions they support
	$(LOWEST)/bin/python -m pytest tests/langchain tests/crewai tests/examples

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
	rm -rf $(VENV) $(LOWEST) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
