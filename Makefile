# `make demo` and `make test` are all a fresh machine needs; both set up .venv first.
# The first of these that runs; the versions of constraints.txt were tested on 3.11.
PYTHONS := python3.11 python3.12 python3.13
NO_PYTHON = none of $(PYTHONS) runs here: install one, or say which: make PYTHON=/path/to/python
PYTHON ?= $(or $(shell for python in $(PYTHONS); do \
	$$python -c '' 2> /dev/null && echo $$python && break; done),$(error $(NO_PYTHON)))
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed.stamp

.PHONY: env demo docs test browser test-slow test-latest soak bench-gpu gpu-wheels lint types unit build clean

env: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: env
	$(BIN)/python experiments/demo/run.py

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/basedpyright --level error

# The report page is tested in Chromium. Debian's is fetched where that is possible;
# elsewhere those tests are skipped and say so.
browser:
	@command -v chromium chromium-headless-shell chromium-browser google-chrome \
		> /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends \
		chromium-headless-shell > /dev/null; } || \
		echo "no Chromium, and none can be installed: the page's tests are skipped"

unit: env browser
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# The site of the documentation, in docs/_build; warnings are errors.
docs: env
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

build: env
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(BIN)/python tests/check_wheel.py dist

# Types and docs keep one core busy each.
test: lint
	$(MAKE) --no-print-directory -j 2 types docs
	$(MAKE) --no-print-directory unit build

# What takes too long for every push: more combinations, every shipped method, attacks.
test-slow: env
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# The suite against the newest allowed jax, in an environment of its own; compiled as
# users compile, and not with the settings of tests/conftest.py.
test-latest: export XLA_FLAGS =
test-latest: export JAX_DISABLE_MOST_OPTIMIZATIONS = 0
test-latest:
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade pip
	.venv-latest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[dev]'
	.venv-latest/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

# Attacks on training, see experiments/reliability/README.md.
soak: export JAX_PLATFORMS = cpu
soak: export JAX_COMPILATION_CACHE_DIR = .jax_cache
soak: env
	for attack in kills flips pairs disk fuzz table; do \
		$(BIN)/python -m experiments.reliability $$attack || exit 1; \
	done
	$(BIN)/python -m pytest -n 2 -m slow tests/faults

# One GPU in minutes, see experiments/bench/README.md.
bench-gpu: env
	$(BIN)/python -m experiments.bench.gpu

# What training needs on a machine with Python 3.12, JAX, Flax and PyTorch, but no network.
GPU_WHEELS := ml-collections grain array-record portpicker mnist1d tensorboardX \
	tensorflow-datasets dm-tree immutabledict simple-parsing docstring-parser \
	tensorflow-metadata googleapis-common-protos termcolor toml importlib-resources

gpu-wheels: env
	rm -rf .whl
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: -d .whl \
		-c constraints.txt --python-version 3.12 --implementation cp \
		--platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
		--platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
		--platform manylinux1_x86_64 $(GPU_WHEELS)
	$(BIN)/python -m pip wheel --quiet --no-deps -w .whl -c constraints.txt promise
	du -sh .whl

clean:
	rm -rf $(VENV) .venv-latest dist docs/_build .jax_cache .whl
