# One developer entry: `make check` is what continuous integration runs after the demo.
PYTHON ?= .venv/bin/python

.PHONY: check lint types test benchmarks docs

check: lint types test benchmarks

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -q -n auto

benchmarks:
	for script in benchmarks/*.py benchmarks/evidence; do $(PYTHON) $$script --quick || exit 1; done

docs:
	$(PYTHON) docs/generate_cli.py
