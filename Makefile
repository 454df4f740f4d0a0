# Everything a newcomer types. Environments are made from hash-locked requirements; none of them is shared.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3 python3.11 python3.12; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && { $$p -c 'import sys; print(sys.executable)'; break; }; done)
BIN := .venv/bin
UV := $(BIN)/uv pip
# A lock names everything; resolving again would ask for opencv-python beside its headless build.
LOCKED := --quiet --no-deps --require-hashes --compile-bytecode
export UV_NO_PROGRESS := 1
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install services load demo up down status doctor test check format lint types layers bench soak repro faults screens docs lock clean

help:  ## what can be typed
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: .venv/.main .venvs/dvc/.done .venvs/triton/.done .venvs/tritonserver/.done  ## make .venv with the `its` command, and the environments of DVC and Triton

.venv/.uv: requirements/uv.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: install it, or name one with make PYTHON=/path/to/python3.12."; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is missing: install it (on Debian: apt-get install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.main: requirements/main.txt pyproject.toml | .venv/.uv
	@echo "installing the platform (several GB: PyTorch brings its GPU libraries)"
	@$(UV) install $(LOCKED) --python $(BIN)/python -r requirements/main.txt
	@$(UV) install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.main
	@$(UV) install $(LOCKED) --python $(BIN)/python -r requirements/dev.txt
	@touch $@

.venvs/%/.done: requirements/%.txt | .venv/.uv
	@echo "making the environment of $*"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venvs/$*
	@$(UV) install $(LOCKED) --python .venvs/$*/bin/python -r requirements/$*.txt
	@touch $@

# Of these wheels only the files are used.
.venvs/tritonserver/.done .venvs/load/.done .venvs/go/.done: .venvs/%/.done: requirements/%.txt | .venv/.uv
	@echo "fetching the files of $*"
	@rm -rf .venvs/$*
	@$(UV) install --quiet --require-hashes --no-deps --python $(BIN)/python --target .venvs/$* -r requirements/$*.txt
	@touch $@

services: install .venvs/services/.done  ## the S3 server of `its up --profile services`

load: .venvs/load/.done  ## NVIDIA's perf_analyzer, which drives Triton's models

demo: install  ## the whole loop on a simulated world, in at most ten minutes
	@$(BIN)/its demo

up: install  ## start Dagster, MLflow, Evidently and Triton on 127.0.0.1
	@$(BIN)/its up

down:  ## stop all of it
	@$(BIN)/its down

status: install  ## what runs, and where
	@$(BIN)/its status

doctor: install  ## what is wrong, and what to do
	@$(BIN)/its doctor

test: install .venv/.dev  ## the tests but the slow ones, two files at a time (SLOW=1 for those too, WORKERS=1 for one file)
	@$(BIN)/python -m pytest -m "not faults$(if $(SLOW),, and not slow)" --numprocesses=$(or $(WORKERS),2) \
		--dist=loadfile --no-loadscope-reorder --durations=40

check: SLOW := 1
check: lint types layers test  ## format, lint, types, layers, every test: what CI runs

format: .venv/.dev  ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: .venv/.dev
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: .venv/.dev
	@$(BIN)/mypy

layers: .venv/.dev
	@$(BIN)/lint-imports

bench: install  ## measure, and fail where a floor fails (NAME=serving for one of them)
	@$(BIN)/python benchmarks/run.py $(NAME)

soak: install  ## an hour of load in three repeats; fail where something is lost or leaks (MINUTES=3 REPEATS=1 to try it)
	@PYTHONPATH=benchmarks $(BIN)/python -m soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(REPEATS),--repeats $(REPEATS))

repro: install  ## rebuild the model that params.yaml describes from its dataset version, without a server
	@PATH="$(CURDIR)/.venv/bin:$(CURDIR)/.venvs/dvc/bin:$$PATH" dvc repro
	@.venvs/dvc/bin/dvc metrics show

faults: install .venv/.dev  ## break a running loop in every way that is promised to be survived
	@$(BIN)/python -m pytest tests/faults -m faults -p no:cacheprovider

screens: install .venv/.dev  ## open the pages in headless Chromium and save pictures of them
	@$(BIN)/its up
	@PYTHONPATH=tests $(BIN)/python -m e2e.screens

docs: install .venv/.dev  ## write the page of the settings, the graph of the marts and the dashboards, and check the documents
	@$(BIN)/python -m its_platform.settings_page > docs/settings.md
	@$(BIN)/python -m assets.dbt_graph
	@$(BIN)/python deploy/grafana/build.py
	@$(BIN)/python -m pytest tests/conventions

lock:  ## resolve the requirements anew
	@for name in main dev triton; do uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --override requirements/overrides.txt requirements/$$name.in -o requirements/$$name.txt; done
	@for name in dvc services uv; do uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 requirements/$$name.in -o requirements/$$name.txt; done
	@for name in tritonserver load go; do uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --no-deps requirements/$$name.in -o requirements/$$name.txt; done

clean: down  ## remove all state of this checkout; environments stay
	@rm -rf .its
