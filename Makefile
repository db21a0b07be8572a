# Every target works on a fresh machine with Python 3.11 to 3.14 and make. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STACK_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
SOAK_ARGS ?= --minutes 60

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench bench-ingest bench-peers soak faults lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-13s %s\n", $$1, $$2}'

run: $(VENV)/local.installed ## start Redis, ClickHouse, gateway and ingestor here; Ctrl-C stops them
	@$(BIN)/python -m deploy.local $(STACK_ARGS)

demo: $(VENV)/local.installed ## the same with mock providers and traffic, so that there is something to see
	@$(BIN)/python -m deploy.local --demo --data data/demo $(STACK_ARGS)

test: $(VENV)/dev.installed ## run all tests against real parts
	@$(BIN)/python -m $(if $(TEST_ARGS),pytest $(TEST_ARGS),tests.side_by_side)

check: $(VENV)/dev.installed ## lint, format, types, package boundaries, manifests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_boundaries.py
	$(BIN)/python -m deploy.check_manifests

bench: $(VENV)/dev.installed ## measure what a request costs, side by side in one run
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

bench-ingest: $(VENV)/dev.installed ## measure what an event costs its gateway, and on its way into ClickHouse
	@$(BIN)/python -m tests.bench.ingest $(BENCH_ARGS)

bench-peers: $(VENV)/dev.installed ## install LiteLLM and Portkey into .peers, so that bench measures them too
	@$(BIN)/python -m tests.bench.install_peers

soak: $(VENV)/dev.installed ## an hour of mixed load: does memory, or anything else, grow?
	@$(BIN)/python -m tests.bench.soak $(SOAK_ARGS)

faults: $(VENV)/dev.installed ## kill parts under load and count what is lost or doubled
	@$(BIN)/python -m pytest -q -s tests/faults tests/model tests/test_admin_api_fuzz.py tests/test_control_plane.py --full

# Extras stay in the lock: pip before 23.3 takes a bare pin for another package, and then finds no hash for it.
lock: ## resolve the dependencies again (needs uv on PATH)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --extra local --extra dev pyproject.toml -o requirements-dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header -c requirements-dev.lock --extra local pyproject.toml -o requirements-local.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header -c requirements-dev.lock pyproject.toml -o requirements.lock

clean: ## delete the virtual environment and caches; keeps ./data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 15) else f"Python 3.11 to 3.14 is needed, this is {sys.version.split()[0]}; try: make PYTHON=python3.13 ...")'
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is needed (Debian, Ubuntu: apt install python3-venv)"; exit 1; }

# One stamp per set: the laptop needs no test tools.
$(VENV)/%.installed: requirements-%.lock | $(VENV)/bin/python
	@echo "installing from $< (a few minutes the first time: the ClickHouse engine alone is 150 MB) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r $<
	@touch $@
