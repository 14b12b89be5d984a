# p2plab needs Python 3.11 or newer and this file; everything else goes into .venv.

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3 python3.13 python3.12 python3.11# the first that will do is taken
FIRST := 00-start-here.ipynb
LAB_ARGS ?=# for example --no-browser --port 8888
TEST_ARGS ?=# for example -k chat
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
PYODIDE := $(VENV)/node_modules/pyodide# a browser's Python, for Node

.PHONY: help lab test check notebooks bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

# The address that it prints is the first notebook's, too, not only what it opens.
lab: $(VENV)/.installed ## open the first notebook; with LAB_ARGS="--no-browser --port 8888" print its address
	$(VENV)/bin/jupyter lab notebooks/$(FIRST) --LabApp.default_url=/lab/tree/$(FIRST) $(AS_ROOT) $(LAB_ARGS)

test: $(VENV)/.installed-dev ## run every test
	$(PY) -m pytest $(TEST_ARGS)

check: $(VENV)/.installed-dev ## look at style and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

notebooks: $(VENV)/.installed-dev ## run every notebook from top to bottom
	$(PY) -m pytest -m notebook $(TEST_ARGS)

bench: $(VENV)/.installed-bench ## measure speed and memory beside others, on this machine
	PYTHONPATH=tests $(PY) tests/bench/bench.py

clean: ## remove what tests and tools leave behind; .venv stays
	rm -rf artifacts build p2plab-demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find p2plab tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml $(PY)
	@echo "Installing p2plab and JupyterLab into $(VENV), once; this takes two to three minutes."
	@$(INSTALL) --editable . || { echo "The installation stopped half-way, for the reason above. Run make again once it is mended." >&2; exit 1; }
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(PY)
	@echo "Installing p2plab and its test tools into $(VENV), once; this takes two to three minutes."
	@$(INSTALL) --editable '.[test,ui,check,fountain]' || { echo "The installation stopped half-way, for the reason above. Run make again once it is mended." >&2; exit 1; }
	@touch $@ $(VENV)/.installed

# what virtual time is compared with; without Node or ns-3 their rows say so
$(VENV)/.installed-bench: pyproject.toml $(VENV)/.installed
	@$(INSTALL) --editable '.[bench]'
	@! command -v npm >/dev/null || $(MAKE) --no-print-directory $(PYODIDE)
	@touch $@

$(PYODIDE): | $(PY)
	@npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix $(VENV) pyodide@314

$(PY):
	@for python in $(PYTHON); do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  recent=$$python; \
	  $$python -c 'import ensurepip, venv' 2>/dev/null || continue; \
	  echo "Making $(VENV) with $$($$python --version)"; \
	  $$python -m venv --clear $(VENV) && exit 0; \
	  rm -rf $(VENV); \
	done; \
	if [ -n "$$recent" ]; then \
	  echo "$$recent is recent enough, but it cannot make a virtual environment: its venv part is missing."; \
	  echo "On Debian or Ubuntu: sudo apt install $$($$recent -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'). Then run make again."; \
	else \
	  echo "p2plab needs Python 3.11 or newer; tried $(PYTHON), and none of them is."; \
	  echo "Get it from https://www.python.org/downloads/, or name it: make lab PYTHON=/path/to/python3.12"; \
	fi >&2; exit 1
