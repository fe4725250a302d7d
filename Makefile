# Everything runs in virtual environments of this folder; PYTHON is Python 3.11 or newer.
PYTHON ?= python3
BIN = .venv/bin
SE_PYTHON = .venv-simpleelastix/bin/python
SLICER_PYTHON = .venv-slicer/bin/python
PIP = -m pip install --quiet --disable-pip-version-check -c constraints.txt
QUICK = not engine and not data and not training and not slow and not gpu
REAL = (engine or data or training) and not slow and not gpu
TWO = -n 2 --dist loadfile
# SimpleElastix where it could be installed; its tests are skipped elsewhere, and named at the end
WITH_SE = $(if $(wildcard $(SE_PYTHON)),LANDMARK_DIR_SIMPLEELASTIX_PYTHON=$(CURDIR)/$(SE_PYTHON))
GITHUB ?= https://github.com
ZOO = 4d25c3c19882b9db934f5ac4f2137597cf33195c
DEEDS = 00b46539aa03d23988a241173d8f1f6c0c68dc6a

.PHONY: setup demo docs links lint test test-unit test-engine test-bare test-slicer test-package test-slow
.PHONY: bench bench-peers clean

setup: .venv/ready

.venv/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -e '.[dev]'
	touch $@

# SimpleITK-SimpleElastix owns the name SimpleITK, so it lives apart. There is no wheel for some machines.
.venv-simpleelastix/ready: setup.cfg
	$(PYTHON) -m venv .venv-simpleelastix
	$(SE_PYTHON) $(PIP) numpy scipy click 'SimpleITK-SimpleElastix==3.0.0a1.post183' \
	  && $(SE_PYTHON) $(PIP) --no-deps -e . || rm -rf .venv-simpleelastix
	mkdir -p .venv-simpleelastix && touch $@

# MRML without Qt: what reads our files in 3D Slicer. Nothing of ours is installed in it.
.venv-slicer/ready:
	$(PYTHON) -m venv .venv-slicer
	$(SLICER_PYTHON) -m pip install --quiet --disable-pip-version-check slicer-core==5.12.4.0 numpy
	touch $@

demo: setup
	$(BIN)/landmark-dir demo -o runs/demo --overwrite

# warnings are errors: a link that leads nowhere, a page that no one finds, a docstring that breaks
docs: setup
	$(BIN)/sphinx-build -W --keep-going -q -E -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# every address in the internet that the pages name; needs the internet
links: setup
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/links

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

# the quick tests first, and each part ends at its first failure: it is told within a minute
test: test-unit lint test-engine

test-unit: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -x -n 2 -m "$(QUICK)"

# two files at a time, a thread each: what a file makes once stays in one process
test-engine: setup .venv-simpleelastix/ready
	$(WITH_SE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -x $(TWO) -m "$(REAL)" --durations=10

# what `.ci/run` repeats on a PATH without elastix and Chromium: no other engine than ITKElastix
test-bare: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -x $(TWO) -m "engine and not data and not slow and not gpu" \
	  tests/cli tests/elastix tests/report

# the Slicer extension, on a small oblique pair; `.ci/run` does it, `make test` does without
test-slicer: setup .venv-slicer/ready
	pair=$$(mktemp -d) && trap 'rm -rf "$$pair"' EXIT \
	  && $(BIN)/python tests/small_pairs.py "$$pair" \
	  && LANDMARK_DIR_COMMAND=$(CURDIR)/$(BIN)/landmark-dir LANDMARK_DIR_PAIR=$$pair \
	  $(SLICER_PYTHON) -W error slicer/LandmarkDir/Testing/Python/test_scene.py

# what is distributed, in an empty environment of PYTHON: `make test-package PYTHON=python3.13`
test-package: setup
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT \
	  && $(PYTHON) -m venv "$$folder/tools" \
	  && "$$folder/tools/bin/python" $(PIP) build twine \
	  && { "$$folder/tools/bin/python" -m build --outdir "$$folder/dist" >"$$folder/log" 2>&1 \
	    || { cat "$$folder/log"; false; }; } \
	  && "$$folder/tools/bin/twine" check --strict "$$folder"/dist/* \
	  && $(BIN)/python tests/small_pairs.py "$$folder/pair" \
	  && $(PYTHON) -m venv "$$folder/venv" \
	  && "$$folder/venv/bin/python" $(PIP) "$$folder"/dist/*.whl \
	  && cd "$$folder" && venv/bin/landmark-dir info \
	  && venv/bin/landmark-dir register pair/fixed.nii.gz pair/moving.nii.gz -o run --preset fast -q

test-slow: setup .venv-simpleelastix/ready
	$(WITH_SE) $(BIN)/python -m pytest -m "slow and not gpu"
	$(BIN)/python -m pytest tests/test_properties.py --hypothesis-profile many
	$(MAKE) test-package

bench: setup .venv-simpleelastix/ready
	$(WITH_SE) $(BIN)/python -m benchmarks.run

# other registration programs, each apart and pinned; the system has to have elastix, plastimatch, git, g++, make
.venv-peers/ready: $(wildcard benchmarks/peers/requirements/*.txt)
	for peer in greedy ants convexadam; do \
	  $(PYTHON) -m venv .venv-peers/$$peer \
	  && .venv-peers/$$peer/bin/python -m pip install --quiet --disable-pip-version-check \
	    -r benchmarks/peers/requirements/$$peer.txt || exit 1; done
	rm -rf .venv-peers/src
	git clone --quiet --no-checkout --filter=blob:none $(GITHUB)/SuperElastix/ElastixModelZoo.git .venv-peers/src/ElastixModelZoo
	git -C .venv-peers/src/ElastixModelZoo checkout --quiet $(ZOO) -- models/default models/Par0003
	git clone --quiet --no-checkout $(GITHUB)/mattiaspaul/deedsBCV.git .venv-peers/src/deedsBCV
	git -C .venv-peers/src/deedsBCV checkout --quiet $(DEEDS)
	$(MAKE) -C .venv-peers/src/deedsBCV
	touch $@

# goes on where it was stopped: what is measured is kept in benchmarks/peers/measured.json
bench-peers: setup .venv-peers/ready
	$(BIN)/python -m benchmarks.peers

clean:
	rm -rf .venv .venv-simpleelastix .venv-slicer .venv-peers build dist docs/_build *.egg-info
