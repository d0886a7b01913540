# Two commands for somebody new: `make demo` and `make test`. Nothing but Python 3.11 or newer, and make, is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo up test pictures test-real faults crashes bench bench-full lint types check lock clean

demo: $(STAMP)  ## every row of the table, an outage, and a table at the end
	$(BIN)/python -m lab.demo

up: $(STAMP)  ## the same environment, left running to play with
	$(BIN)/python -m lab.up

test: $(STAMP)  ## the whole suite
	$(BIN)/python -m pytest

test-real: $(STAMP)  ## against real systems; as root it installs them with apt, else it skips by name what is not there
	$(BIN)/python -m tests.real.packages
	$(BIN)/python -m pytest tests/real

faults: $(STAMP)  ## every integration step against every fault; python -m tests.faults.table writes docs/faults.md
	$(BIN)/python -m pytest tests/faults

crashes: $(STAMP)  ## worker and server killed at every step and stage; python -m tests.crashes.table writes docs/crashes.md
	$(BIN)/python -m pytest tests/crash_matrix

pictures: $(STAMP)  ## the docs' pictures of mails, the desk and Temporal's Web UI, anew, by Debian's Chromium
	HOLDPOINT_PICTURES=docs/pictures $(BIN)/python -m pytest tests/mail_pictures tests/browser

bench: $(STAMP)  ## the figures of docs/performance.md, in some ten minutes on a machine that does nothing else
	$(BIN)/python -m benchmarks

bench-full: $(STAMP)  ## the same with 10,000 paused cases and with each setting of the worker: some two hours
	$(BIN)/python -m benchmarks --full rows floor plain paused storm tuning

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy .

check: test lint types

# A changed lock installs again; an unchanged one needs no network.
$(STAMP): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Holdpoint needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@touch $(STAMP)

lock:  ## renew the locks from pyproject.toml (needs uv on the path)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra lab --extra dev \
		--constraint requirements.lock pyproject.toml -o requirements-dev.lock

clean:  ## what make made
	rm -rf $(VENV) .holdpoint demo-report.json
