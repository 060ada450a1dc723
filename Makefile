# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := policies grading ensemble

.PHONY: demo test check format bench clean

demo: $(READY)  ## make policies from the ladder's checkpoints, sample, grade, report
	$(BIN)/alphamix run examples/ladder/quickstart.toml

test: $(READY)  ## all tests
	$(BIN)/python -m pytest

check: $(READY)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(READY)  ## what `check` would complain of and a machine can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## ratios against named peers or limits, see docs/benchmarks.md
	$(BIN)/python benchmarks/run.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "alphamix needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,serve,report,dask,ray,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV)
