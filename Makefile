# `make help` lists what can be typed here. Every target does the set-up it needs by itself.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup doctor demo test test-slow soak test-browser lint types docs bench bench-etl bench-cluster bench-sequences bench-loader bench-encoders bench-losses bench-train bench-quality oracle ui clean clean-data

BIN := .venv/bin
# Where Horovod cannot be built, HOROVOD=no goes on under torch.distributed.
HOROVOD ?= yes
COMMUNICATOR := $(if $(filter no,$(HOROVOD)),--set train.communicator=torch)
# What else to hand to pytest or to the job: make test ARGS='-k sessions -x', make demo ARGS='--set seed=7'
ARGS ?=

TRACKING_URI := from behavior_lib.config import load; print(load('local', None, []).config.mlflow.tracking_uri)

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## Make .venv with all packages, Horovod and Delta's jars (seconds once it is there)
	@HOROVOD=$(HOROVOD) scripts/setup.sh

doctor: setup ## Check that this machine and .venv can run the jobs
	@$(BIN)/behavior doctor $(ARGS)

demo: setup ## Run the whole way on the Complete Journey retail data
	@$(BIN)/behavior pipeline --env local $(COMMUNICATOR) $(ARGS)

test: setup ## Run every test but the slow ones and those that open a browser
	@$(BIN)/python -m pytest tests --ignore=tests/browser -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup ## Run the slow ones: the whole way, spark-submit, a lost worker, erased people, warehouses that are cared for
	@$(BIN)/python -m pytest tests --ignore=tests/browser -m slow -n 2 --dist load $(ARGS)

soak: setup ## Kill 60 runs at random moments and compare what they left (half an hour on two cores)
	@$(BIN)/python -m pytest tests/e2e/test_kills.py --kills 60 -n 2 --dist load $(ARGS)

test-browser: setup ## Open the report in Chromium and check what it shows
	@scripts/install_chromium.sh
	@$(BIN)/python -m pytest tests/browser $(ARGS)

lint: setup ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## Check types, strictly
	@$(BIN)/mypy --strict behavior_lib jobs benchmarks

docs: setup ## Write docs/tables.md anew from the table definitions
	@$(BIN)/python -m behavior_lib.tables.document

bench: setup ## Measure the demo, and print the figures as JSON
	@$(BIN)/python -m benchmarks demo $(ARGS)

bench-etl: setup ## Measure ingest and sessionize on generated events (ten minutes on two cores)
	@$(BIN)/python -m benchmarks etl $(ARGS)

bench-encoders: setup ## Measure one pass of every encoder beside the transformer (a minute)
	@$(BIN)/python -m benchmarks encoders $(ARGS)

bench-quality: setup ## Train every encoder and objective at equal budgets, judge the best beside every baseline (hours)
	@$(BIN)/python -m benchmarks quality --page docs/quality.md $(ARGS)

bench-cluster: setup ## Kill a worker of a Spark cluster midway and compare the tables (10 million events)
	@$(BIN)/python -m benchmarks cluster $(ARGS)

bench-sequences: setup ## Measure how fast sequences are built, whole and after a day (minutes)
	@$(BIN)/python -m benchmarks sequences $(ARGS)

bench-loader: setup ## Measure how fast training reads, beside pyarrow and stock petastorm (minutes)
	@$(BIN)/python -m benchmarks loader $(ARGS)

bench-losses: setup ## Measure losses over catalogues of up to a million items, time and memory (minutes)
	@$(BIN)/python -m benchmarks losses $(ARGS)

bench-train: setup ## Measure how fast training is, beside RePlay and RecBole, and the limit (quarter of an hour)
	@$(BIN)/python -m benchmarks train $(ARGS)

oracle: setup ## Compare the event log of whole data sets with the same log by SQL, row for row (minutes)
	@$(BIN)/python -m benchmarks oracle $(ARGS)

ui: setup ## Show the runs and the model registry at http://127.0.0.1:5000
	@$(BIN)/mlflow ui --backend-store-uri "$$($(BIN)/python -c "$(TRACKING_URI)")" $(ARGS)

clean: ## Remove .venv and what the tools left; var/ (tables, models, reports) stays
	@rm -rf .venv .setup.lock .setup.log build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "make clean: done; tables, models and reports in var/ are kept, 'make clean-data' removes them"

clean-data: ## Remove var/: tables, models, checkpoints and reports
	@rm -rf var spark-warehouse metastore_db derby.log
