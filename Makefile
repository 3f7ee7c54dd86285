# `make demo` and `make test` are all a fresh machine needs; both set up .venv first.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed.stamp

.PHONY: env demo test test-slow test-latest soak bench-gpu gpu-wheels lint types unit build clean

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

unit: env
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

build: env
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(BIN)/python tests/check_wheel.py dist

test: lint types unit build

# What takes too long for every push: more combinations, every shipped method, attacks.
test-slow: env
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# The suite against the newest allowed jax, in an environment of its own.
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
	rm -rf $(VENV) .venv-latest dist .jax_cache .whl
