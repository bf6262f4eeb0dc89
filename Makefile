# Every target works on a fresh machine that has only python3 (3.11 or newer) and make.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out
PYTEST_ARGS ?= -n auto

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench docs experiments clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create the environment and install accelsim with pinned versions

$(STAMP): pyproject.toml constraints.txt accelsim/version.py
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "accelsim needs Python 3.11 or newer, but there is no command '$(PYTHON)';" \
	         "name one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "accelsim needs Python 3.11 or newer, but $(PYTHON) is $$("$(PYTHON)" --version 2>&1);" \
	         "name a newer one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot create environments: install its venv module" \
	         "(on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing accelsim into $(VENV) (about a minute)"
	@"$(PYTHON)" -m venv "$(VENV)"
	@$(PIP) install -c constraints.txt hatchling editables
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[models,explore,dev]'
	@touch $@

DEMO := $(OUT)/demo
TRAFFIC := experiments/attention_traffic

demo: $(STAMP) ## Compare attention on real tensors, sweep a design space, draw the figures
	$(BIN)/accelsim compare --machine ascend-910b --workload smollm2-real --kernels dense,flash \
	    --timeline --out $(DEMO)
	$(BIN)/accelsim run --machine ascend-910b --workload smollm2-real --kernel flash \
	    --trace $(DEMO)/flash-trace.json
	$(BIN)/accelsim sweep $(TRAFFIC)/sweep.yaml --out $(DEMO)/sweep
	$(BIN)/accelsim plot $(DEMO)/sweep
	$(BIN)/accelsim plot $(DEMO)/sweep --x scratchpad_peak_bytes --y time_s --pareto
	$(BIN)/python $(TRAFFIC)/figure.py $(DEMO)/sweep $(DEMO)
	@echo "tables:  $(DEMO)/compare.csv $(DEMO)/sweep/results.csv"
	@echo "figures: $$(cd $(DEMO) && echo *.png sweep/*.png), in $(DEMO)"
	@echo "trace:   $(DEMO)/flash-trace.json, opens in Perfetto"

test: $(STAMP) ## Run every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Put the code into its canonical form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure speed and memory
	$(BIN)/python -m benchmarks

docs: $(STAMP) ## Make the generated parts of the pages again and build out/docs
	$(BIN)/python docs/build_examples.py
	$(BIN)/mkdocs build --strict --site-dir $(abspath $(OUT))/docs
	@echo "open $(OUT)/docs/index.html"

experiments: $(STAMP) ## Run every experiment into out/experiments and draw docs/gallery again
	@set -e; for folder in experiments/*; do \
	    out=$(OUT)/experiments/$$(basename $$folder); \
	    if [ -f $$folder/run.py ]; then $(BIN)/python $$folder/run.py $$out; \
	    else $(BIN)/accelsim sweep $$folder/sweep.yaml --out $$out; fi; \
	    $(BIN)/python $$folder/figure.py $$out docs/gallery; \
	done

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
