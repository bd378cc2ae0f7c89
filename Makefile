# Two commands for a newcomer: `make quickstart` and `make test`. Both set up .venv first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: quickstart test lint types check format bench clean

# torch first and by its exact version: the others then take it as it is.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "whet needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(VENV)/ready ## train the model in the package on rows that ship with it, and show before and after
	HF_HUB_OFFLINE=1 $(BIN)/whet train recipes/quickstart/recipe.yaml

# One thread a worker: two that wait for each other on the same cores are many times slower.
test: $(VENV)/ready ## every test; no network, no GPU
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy

check: lint types test ## what continuous integration runs

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/ready ## side by side with TRL + PEFT, in one run
	$(BIN)/python bench/sft.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
