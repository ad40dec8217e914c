# Headstart
# Two commands set up everything on a fresh machine with Python 3.11 to 3.13 and git:
#   make run    environment, then the whole pipeline on the data that params.yaml names
#   make test   environment, the packages that this takes, then format, lint, types, layers and tests
#   make test-hub   an environment with keras-hub, and the tests that need it
# and `make docs` builds the site of docs/ in site/.

# The first Python on the path that will do; the interpreter itself, not a link that some version manager put there.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	found=$$($$name -c 'import ensurepip, sys; (3, 11) <= sys.version_info < (3, 14) and print(sys._base_executable)' \
		2>/dev/null) && test -n "$$found" && echo "$$found" && break; done)
BIN := .venv/bin
READY := .venv/ready
COMPLETE := .venv/complete
HUB := .venv-hub

# Where the home directory cannot be written, what would go there goes into the environment.
ifneq ($(shell test -n "$$HOME" && test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.venv/home/cache
export XDG_CONFIG_HOME := $(CURDIR)/.venv/home/config
export XDG_DATA_HOME := $(CURDIR)/.venv/home/data
export XDG_STATE_HOME := $(CURDIR)/.venv/home/state
export DVC_SITE_CACHE_DIR := $(CURDIR)/.venv/home/dvc
export KERAS_HOME := $(CURDIR)/.venv/home/keras
export PIP_NO_CACHE_DIR := 1
export UV_NO_CACHE := 1
endif
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUTF8 := 1
# Each process would compile all modules anew where nothing is to write bytecode.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-hub lint docs clean

run: $(READY)
	@$(BIN)/dvc repro
	@echo
	@$(BIN)/headstart results data/evaluation

# As many processes run as there are cores: threads of BLAS and TensorFlow would wait for one another.
test: export OMP_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
test: export TF_NUM_INTRAOP_THREADS := 1
test: export TF_NUM_INTEROP_THREADS := 1
test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-hub: $(HUB)/ready
	$(HUB)/bin/python -m pytest tests/hub

lint: $(COMPLETE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(COMPLETE)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html; to search it, too: $(BIN)/python -m http.server --directory site"

# An environment knows its own path: it is made anew where that changed, as it is after an install that was cut short.
ifneq ($(shell cat $(READY) 2>/dev/null),$(shell pwd -P))
.PHONY: $(READY)
endif

# What `make run` needs is installed by itself; what checks the code comes on top of it.
$(READY): requirements-run.lock pyproject.toml .ci/install.py
	@"$(PYTHON)" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo "Expected Python 3.11, 3.12 or 3.13 with venv (on Debian the package python3-venv), received '$(PYTHON)'." \
		"Name one: make run PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing the packages of requirements-run.lock into .venv: about 2.5 GB, a minute or less."
	@rm -rf .venv
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python .ci/install.py requirements-run.lock
	@$(BIN)/python -m pip install --disable-pip-version-check -qq --no-deps --no-build-isolation --editable .
	@pwd -P > $(READY)

$(COMPLETE): $(READY) requirements.lock
	@echo "Installing the rest of requirements.lock into .venv."
	@$(BIN)/python .ci/install.py requirements.lock
	@touch $(COMPLETE)

# keras-hub brings the full TensorFlow, which must not stand beside that of the other environment.
$(HUB)/ready: requirements-hub.lock pyproject.toml .ci/install.py
	@echo "Installing the packages of requirements-hub.lock into $(HUB): about 2.8 GB."
	@rm -rf $(HUB)
	@"$(PYTHON)" -m venv $(HUB)
	@$(HUB)/bin/python .ci/install.py requirements-hub.lock
	@$(HUB)/bin/python -m pip install --disable-pip-version-check -qq --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf .venv $(HUB) site
