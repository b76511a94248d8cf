# Needs python3 >= 3.11 with venv, and make. Everything else goes into .venv.
PYTHON ?= python3
# nproc obeys OMP_NUM_THREADS, which says nothing of processes.
CORES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
BIN := .venv/bin
ARGS ?=
CONFIG ?= config.yaml
RATES ?=
FROM ?= bench/gpu
WHEELS ?= bench/wheels
PLATFORMS := manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64

.PHONY: demo test bench estimate scale gpu gpu-rates gpu-wheels screenshots lint format clean lock

demo: .venv/ready ## set up, then run the main job on the embedded default
	$(BIN)/snakemake --cores $(CORES) --quiet rules $(ARGS)

test: .venv/ready ## set up, then run the tests, in a process a core
	$(BIN)/pytest -n $(CORES) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: .venv/ready ## time of each stage over a bare forward pass, memory, bytes written
	PYTHONPATH=scripts:tests/support $(BIN)/python tests/benchmarks/bench.py $(ARGS)
	PYTHONPATH=scripts:tests/support $(BIN)/python tests/benchmarks/bench_designed.py
	PYTHONPATH=scripts:tests/support $(BIN)/python tests/benchmarks/bench_milan.py

estimate: .venv/ready ## what CONFIG=... will cost: jobs, hours, disk and memory; RATES=h100 or RATES=FILE.csv: on such a GPU
	@PYTHONPATH=scripts $(BIN)/python -m nemesis.estimate $(CONFIG) $(RATES)

scale: .venv/ready ## measure rates at the paper's scale; rewrites docs/scale.* and the rates of `make estimate`
	PYTHONPATH=scripts:tests/support $(BIN)/python tests/benchmarks/bench_scale.py $(ARGS)

gpu: .venv/ready ## tests and rates on a GPU, in bench/gpu; in small on the processor where there is none
	$(BIN)/python tests/benchmarks/bench_gpu.py $(ARGS)

gpu-rates: .venv/ready ## keep what `make gpu` measured in FROM=... for docs/scale.md and `make estimate`
	PYTHONPATH=scripts:tests/support $(BIN)/python tests/benchmarks/scale_tables.py $(FROM)

gpu-wheels: ## a folder WHEELS=... of what tests/benchmarks/bench_gpu.py needs beside torch, for Python 3.12 without a registry
	$(PYTHON) -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
		$(PLATFORMS:%=--platform %) -d $(WHEELS) -r tests/benchmarks/gpu_requirements.txt

screenshots: .venv/ready ## pictures of the report for the README; needs Chromium and a finished `make demo`
	PYTHONPATH=tests/support $(BIN)/python tests/support/screenshots.py results/runs/config/report/index.html docs

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

clean: ## remove what runs made, keep .venv and downloads
	find results -mindepth 1 -maxdepth 1 ! -name .gitkeep ! -name downloads -exec rm -rf {} +
	rm -rf logs benchmarks .snakemake .pytest_cache .ruff_cache .hypothesis

lock: .venv/uv ## pin the newest versions that pyproject.toml admits
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes \
		--no-emit-index-url --no-header --upgrade -o requirements.lock

.venv/uv:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("nemesis needs python3 >= 3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	touch $@

.venv/ready: .venv/uv requirements.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	touch $@
