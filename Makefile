# make demo   the main job, in a private network namespace; the host is not touched
# make test   everything that guards a promise; installs what is missing
# make check  format, lint, types      make bench  what things cost, side by side
# make sweep  kill an update at every system call      make dist  the wheel

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: demo test check bench sweep dist system clean

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

sweep: $(STAMP) system
	GEOFENCE_KILL_EVERY=1 $(BIN)/python -m pytest tests/faults

dist: $(STAMP)
	$(PIP) wheel --no-deps --wheel-dir dist .

system:
	@sh tests/system-packages

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "geofence needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade --constraint constraints.txt pip
	$(PIP) install --constraint constraints.txt --editable . --group dev
	@touch $@

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
