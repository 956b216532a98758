# Every target does its own set-up in .venv; needed beforehand: make and Python 3.11 to 3.13.
# No compiler is needed.

# The folder of audio and the checkpoint that `make report` and `make evidence` run on.
AUDIO ?= data/audio
CHECKPOINT ?= mini
# Where the report is built.
OUT ?= build
# The Python that makes .venv; the first fitting one if not given.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)
# The index that torch comes from, read by .ci/install.py. Empty: pip's default index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
export TORCH_INDEX

BIN := .venv/bin
# Named after what decides the environment's content, so that a changed lock installs again.
READY := .venv/ready-$(firstword $(shell cat requirements.lock pyproject.toml .ci/install.py | cksum))

.DEFAULT_GOAL := help
.PHONY: help setup test test-processes report pdf evidence lint format lock clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 26
	@echo
	@echo '  make report AUDIO=DIR CHECKPOINT=C    on your own audio and checkpoint (mini, a folder or a hub id)'
	@echo '  make evidence AUDIO=DIR               write the tables under book/evidence from a folder of audio'
	@echo '  TORCH_INDEX=URL                       another index for torch (default: the CPU builds; empty: pip'"'"'s own)'

setup: $(READY) ## Make .venv with the locked packages

$(READY):
	@for python in $(PYTHONS); do \
	    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || continue; \
	    $$python -m venv .venv && exit 0; \
	    echo "make: $$python cannot make virtual environments (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; \
	done; echo 'make: no Python 3.11 to 3.13 found; say which with PYTHON=/path/to/python3' >&2; exit 1
	@$(BIN)/python .ci/install.py
	@rm -f .venv/ready-*
	@touch $@

# A module's tests stay on one worker, so that what they share is made once.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadscope

test: $(READY) ## Run the tests that need no processes of their own
	$(PYTEST) -m 'not processes and not browser' $(ARGS)

test-processes: $(READY) ## Run those that start workers, kernels or a browser
	$(PYTEST) -m 'processes or browser' $(ARGS)

report: $(READY) ## Run the notebooks and build the book into build/html
	$(BIN)/audioldm-utils report --audio "$(AUDIO)" --checkpoint "$(CHECKPOINT)" --out "$(OUT)"

pdf: $(READY) ## Build the book and print it as build/book.pdf (needs Chromium)
	$(BIN)/audioldm-utils report --pdf --audio "$(AUDIO)" --checkpoint "$(CHECKPOINT)" --out "$(OUT)"

evidence: $(READY) ## Write the eval-scale tables of book/evidence (AUDIO=DIR)
	$(BIN)/audioldm-utils evidence --audio "$(AUDIO)" --checkpoint "$(CHECKPOINT)" --out book/evidence

lint: $(READY) ## Check style, format, imports, and that each notebook pair agrees
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry .
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/python -m pytest tests/book/test_notebooks.py -k pair

format: $(READY) ## Put the code into format and write each .ipynb from its .py
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/audioldm-utils report --write-pairs

lock: $(READY) ## Write requirements.lock from pyproject.toml and .venv
	$(BIN)/python .ci/lock.py

clean: ## Remove what the report built
	rm -rf build
