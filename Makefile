# Two commands set up everything on a fresh machine with Python 3.11 to 3.13 and git:
#   make run    environment, then the whole pipeline on the data that params.yaml names
#   make test   environment, then format, lint, types, layers and tests

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
READY := .venv/ready

# Where the home directory cannot be written, what belongs there goes into the environment.
ifneq ($(shell test -n "$$HOME" -a -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.venv/home/cache
export XDG_CONFIG_HOME := $(CURDIR)/.venv/home/config
export XDG_DATA_HOME := $(CURDIR)/.venv/home/data
export KERAS_HOME := $(CURDIR)/.venv/home/keras
endif
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUTF8 := 1

.PHONY: run test lint clean

run: $(READY)
	dvc repro
	@headstart results data/evaluation/*

test: lint
	python -m pytest

lint: $(READY)
	ruff format --check .
	ruff check .
	mypy
	lint-imports

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear .venv
	python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

clean:
	rm -rf .venv
