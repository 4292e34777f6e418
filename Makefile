# make run: the app.  make test: the tests, minutes.  make lint: ruff and mypy.  make test-slow: what
# takes long or is timed (tests/README.md).  Each makes .venv first.
# make lock: writes all pinned requirements from the ranges in pyproject.toml
# (make lock ARGS=--upgrade: to the newest versions that the ranges allow).
# make wheel: dist/rlhf_chat-*.whl.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
WORKERS ?= 2
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# As rlhf_chat/__init__.py, also where torch is imported before it.
export GOMP_SPINCOUNT ?= 10000

.PHONY: run test test-slow lint bench screenshots lock wheel clean

run: .venv/run.stamp
	$(BIN)/python app.py $(ARGS)

test: .venv/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: .venv/dev.stamp
	$(BIN)/python -m pytest tests/slow --timeout 7200 $(ARGS)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev.stamp
	$(BIN)/python -m bench.latency
	$(BIN)/python -m bench.learning_curve --utility rlhf_chat/simulation/tastes/lists.py:utility

screenshots: .venv/dev.stamp
	$(BIN)/python -m docs.screenshots $(ARGS)

# What torch brings for a graphics card is in requirements.lock only: CONTRIBUTING.md says why.
CUDA := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
	nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile \
	nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--custom-compile-command "make lock (see CONTRIBUTING.md)" --no-annotate
WITHOUT_CUDA := $(CUDA:%=--no-emit-package %) --no-emit-package pip

lock: .venv/dev.stamp
	$(COMPILE) $(ARGS) -o requirements.txt $(WITHOUT_CUDA)
	$(COMPILE) $(ARGS) -o requirements-dev.txt -c requirements.txt --extra dev $(WITHOUT_CUDA)
	$(COMPILE) $(ARGS) -o requirements.lock -c requirements.txt --generate-hashes
	$(COMPILE) -o rlhf_chat/tested_versions.txt -c requirements.txt --no-deps

wheel: .venv/run.stamp
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

.venv/run.stamp: requirements.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.txt
	$(INSTALL) -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
