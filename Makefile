# make demo   the main job, in a private network namespace; the host is not touched
# make test   everything that guards a promise; installs what is missing
# make check  format, lint and types     make bench  the table of speeds     make dist  the wheel

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench dist system clean

demo: $(STAMP) system
	@$(BIN)/python -m tests.demo

test: $(STAMP) system check
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP) system
	@$(BIN)/python -m tests.bench

dist: $(STAMP)
	$(BIN)/python -m pip --quiet --disable-pip-version-check wheel --no-deps --wheel-dir dist .

system:
	@sh tests/system-packages

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "geofence needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --quiet --disable-pip-version-check install --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt --editable . --group dev
	@touch $@

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
