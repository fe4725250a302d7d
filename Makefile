# Everything runs in virtual environments of this folder; PYTHON is Python 3.11 or newer.
PYTHON ?= python3
BIN = .venv/bin
SE_PYTHON = .venv-simpleelastix/bin/python
PIP = -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup demo lint test test-unit test-slow bench clean

setup: .venv/ready

.venv/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -e '.[dev]'
	touch $@

# SimpleITK-SimpleElastix owns the name SimpleITK, so it lives apart.
.venv-simpleelastix/ready: setup.cfg
	$(PYTHON) -m venv .venv-simpleelastix
	$(SE_PYTHON) $(PIP) numpy scipy click 'SimpleITK-SimpleElastix==3.0.0a1.post183'
	$(SE_PYTHON) $(PIP) --no-deps -e .
	touch $@

demo: setup
	$(BIN)/landmark-dir demo -o runs/demo --overwrite

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

test-unit: setup
	$(BIN)/python -m pytest -m "not engine and not data and not training and not slow and not gpu"

test: lint .venv-simpleelastix/ready test-unit
	LANDMARK_DIR_SIMPLEELASTIX_PYTHON=$(CURDIR)/$(SE_PYTHON) \
	  $(BIN)/python -m pytest -m "(engine or data or training) and not slow and not gpu" --durations=10

test-slow: setup .venv-simpleelastix/ready
	LANDMARK_DIR_SIMPLEELASTIX_PYTHON=$(CURDIR)/$(SE_PYTHON) $(BIN)/python -m pytest -m "slow and not gpu"

bench: setup .venv-simpleelastix/ready
	LANDMARK_DIR_SIMPLEELASTIX_PYTHON=$(CURDIR)/$(SE_PYTHON) $(BIN)/python -m benchmarks.run

clean:
	rm -rf .venv .venv-simpleelastix build dist *.egg-info
