# Headstart
# Two commands set up everything on a fresh machine with Python 3.11 to 3.13 and git:
#   make run    environment, then the whole pipeline on the data that params.yaml names
#   make test   environment, then format, lint, types, layers and tests
# and `make docs` builds the site of docs/ in site/.

# The first Python on the path that will do; the interpreter itself, not a link that some version manager put there.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	found=$$($$name -c 'import ensurepip, sys; (3, 11) <= sys.version_info < (3, 14) and print(sys._base_executable)' \
		2>/dev/null) && test -n "$$found" && echo "$$found" && break; done)
BIN := .venv/bin
READY := .venv/ready

# Where the home directory cannot be written, what would go there goes into the environment.
ifneq ($(shell test -n "$$HOME" && test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.venv/home/cache
export XDG_CONFIG_HOME := $(CURDIR)/.venv/home/config
export XDG_DATA_HOME := $(CURDIR)/.venv/home/data
export XDG_STATE_HOME := $(CURDIR)/.venv/home/state
export DVC_SITE_CACHE_DIR := $(CURDIR)/.venv/home/dvc
export KERAS_HOME := $(CURDIR)/.venv/home/keras
export PIP_NO_CACHE_DIR := 1
endif
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUTF8 := 1

.PHONY: run test lint docs clean

run: $(READY)
	@$(BIN)/dvc repro
	@echo
	@$(BIN)/headstart results $$($(BIN)/dvc stage list --name-only | sed -n 's#^evaluate[@-]#data/evaluation/#p')

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html; to search it, too: $(BIN)/python -m http.server --directory site"

# An environment knows its own path: it is made anew where that changed, as it is after an install that was cut short.
ifneq ($(shell cat $(READY) 2>/dev/null),$(shell pwd -P))
.PHONY: $(READY)
endif

# On a terminal a line counts what pip fetches; elsewhere pip is quiet, and quiet twice it tells errors only.
PIP := $(BIN)/python -m pip install --disable-pip-version-check
LOCKED := --require-hashes --requirement requirements.lock
COUNTED := n=0; while read -r word rest; do case $$word in \
	Collecting) n=$$((n + 1)); printf '\rPackages fetched: %d' $$n ;; \
	Installing) printf '\rPackages fetched: %d; unpacking them.' $$n ;; esac; done; echo

$(READY): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo "Expected Python 3.11, 3.12 or 3.13 with venv (on Debian the package python3-venv), received '$(PYTHON)'." \
		"Name one: make run PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing the packages of requirements.lock into .venv: about 2.5 GB, a minute or more."
	@rm -rf .venv
	@"$(PYTHON)" -m venv .venv
	@if [ -t 1 ]; then { $(PIP) --progress-bar off $(LOCKED) || touch .venv/failed; } | { $(COUNTED); }; \
		else $(PIP) -qq $(LOCKED) || touch .venv/failed; fi; test ! -e .venv/failed
	@$(PIP) -qq --no-deps --no-build-isolation --editable .
	@pwd -P > $(READY)

clean:
	rm -rf .venv site
