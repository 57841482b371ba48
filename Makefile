# Two commands: `make run` trades a recorded day on simulated venues, `make test` proves the rest.
# The environment in .venv is made when it is first needed and whenever its pins change.

VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
WORKERS ?= 2
LOCKS  := runtime local research dev mutation
UV     ?= uv

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-research setup-dev run test bundles check-bundles sweep mutation lint typecheck format lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.local-installed  ## make .venv with what running needs
	@:

setup-research: $(VENV)/.research-installed  ## add what training and plots need
	@:

setup-dev: $(VENV)/.dev-installed  ## add what the tests and checks need
	@:

run: setup  ## run the loop; ARGS="..." are passed on
	@$(BIN)/trading-loop run $(ARGS)

test: setup-dev  ## run the tests; ARGS="..." are passed on
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

bundles: setup  ## write what goes to Pipedream, one file a step, into bundles/
	@$(BIN)/trading-loop deploy build

check-bundles: setup  ## whether bundles/ is what the sources and pins give
	@$(BIN)/trading-loop deploy build --check

sweep: setup  ## kill and break every external call of a run; ARGS="--pairs 10000 --days 30"
	@$(BIN)/python -m deploy.local.sweep $(ARGS)

mutation: $(VENV)/.mutation-installed  ## change order code one piece at a time; ARGS="--only gate"
	@$(BIN)/python -m scripts.mutation $(ARGS)

lint: setup-dev  ## style and common mistakes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

typecheck: setup-dev  ## types
	@$(BIN)/mypy

format: setup-dev  ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock:  ## work out requirements/*.txt anew (needs uv)
	@for name in $(LOCKS); do \
	    $(UV) pip compile --quiet --universal --python-version 3.12 --generate-hashes \
	        --no-emit-index-url --no-emit-find-links --no-header \
	        requirements/$$name.in --output-file requirements/$$name.txt || exit 1; \
	done

clean:  ## remove the environment and every cache; .local, with its ledgers, stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find deploy shared steps tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@python=$$(sh scripts/find-python) && echo "Making $(VENV) with $$python" && \
	    "$$python" -m venv --clear $(VENV)

$(VENV)/.local-installed: requirements/local.txt pyproject.toml | $(BIN)/pip
	@echo "Installing the pinned packages"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/local.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.research-installed: requirements/research.txt $(VENV)/.local-installed
	@echo "Installing what training and plots need"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/research.txt
	@touch $@

$(VENV)/.dev-installed: requirements/dev.txt $(VENV)/.local-installed
	@echo "Installing what the tests need"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.mutation-installed: requirements/mutation.txt $(VENV)/.dev-installed
	@echo "Installing what mutation testing needs"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/mutation.txt
	@touch $@
