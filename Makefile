# `make demo` runs the main recipe, `make test` the tests. Each installs what it needs first: into the active virtual
# environment, or else into a .venv of its own.
PYTHON ?= python3
ENVIRONMENT := $(or $(VIRTUAL_ENV),.venv)
BIN := $(ENVIRONMENT)/bin
RUN := PATH="$(abspath $(BIN)):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types schema schema-current

help:
	@echo "make demo    adapt a text classifier to an unlabelled target domain; the report lands in out/"
	@echo "make test    run the tests"
	@echo "make check   lint, types, and whether the recipes' schema is current"
	@echo "make schema  write recipes/recipe.schema.json anew from the stages' signatures"

demo: $(ENVIRONMENT)/.hftransfer-demo
	$(RUN) accelerate launch --config_file accelerate_config.yaml -m hftransfer.recipe bert_domain_adapt --output_dir out

test: $(ENVIRONMENT)/.hftransfer-test
	$(RUN) python -m pytest -n logical --maxprocesses 4 --dist worksteal

check: lint types schema-current

lint: $(ENVIRONMENT)/.hftransfer-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(ENVIRONMENT)/.hftransfer-dev
	$(RUN) mypy

schema: $(ENVIRONMENT)/.hftransfer-dev
	$(RUN) python -m hftransfer.recipe schema > $(ENVIRONMENT)/recipe.schema.json
	mv $(ENVIRONMENT)/recipe.schema.json recipes/recipe.schema.json

schema-current: $(ENVIRONMENT)/.hftransfer-dev
	$(RUN) python -m hftransfer.recipe schema | diff recipes/recipe.schema.json -

# The stamp makes a second run start at once; a changed requirement installs again.
$(ENVIRONMENT)/.hftransfer-%: pyproject.toml constraints.txt | $(BIN)/python
	$(RUN) python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	@touch $@

.venv/bin/python:
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "'$(PYTHON) -m venv' failed: Python 3.10 or newer with its venv module is needed" \
		"(on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
