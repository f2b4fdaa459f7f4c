# Chores, one command each. Everything is installed into folders of this checkout.

PYTHON ?= python3
# The converter's PyTorch. Where pip would fetch a CUDA build, any CPU build from 2.9 on does.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: help demo test test-arm test-engine test-faults test-floors test-slow lint lint-systems docs miniature shipped bench bench-quick clean

.DEFAULT_GOAL := help

help:  ## This list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv-demo/ready  ## The engine alone, without PyTorch, and one clip
	.venv-demo/bin/sao-onnx gen "128 BPM tech house drum loop" --seed 42 -o demo.wav --force

.venv-demo/ready: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check .
	touch $@

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[convert,dev]'
	touch $@

test: lint  ## Style, types and tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-arm: .venv/ready  ## The wheel on four emulated Arm cores and both releases of Raspberry Pi OS: minutes
	SAO_ONNX_ARM=all $(BIN)/python -m pytest tests/test_arm.py

test-faults: .venv/ready  ## 10,000 injected faults, counted: ten minutes on two processors, Linux
	$(BIN)/python -m tests.faults --results scratch/faults.md

test-slow: .venv/ready  ## The full-size rehearsal: minutes, 8 GB of memory, 8 GB of disk
	$(BIN)/python -m pytest -m slow -s

test-floors: .venv/ready  ## The oldest and the newest releases of what the engine needs, from the package index: minutes
	$(BIN)/python -m pytest -m slow tests/test_floors.py

test-engine: .venv/ready  ## The sdist's own tests, in an environment with the engine and pytest alone: minutes
	$(BIN)/python -m pytest -m slow tests/test_sdist.py

lint: .venv/ready  ## Style and types
	$(BIN)/ruff check --output-format concise .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv-docs/ready  ## The documentation as a site, in build/site: plain files for any host
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo build/site/index.html

.venv-docs/ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

lint-systems: .venv/ready  ## Types as they are on Windows and macOS: a minute
	$(BIN)/mypy --platform win32 engine/sao_onnx convert tools
	$(BIN)/mypy --platform darwin engine/sao_onnx convert tools

miniature: .venv/ready  ## Make the committed miniature bundle again
	$(BIN)/python -m sao_onnx_convert.synthetic models/miniature scratch/miniature
	cp models/miniature/LICENSE scratch/miniature/LICENSE
	$(BIN)/sao-onnx convert scratch/miniature --t5 scratch/miniature/t5 -o models/miniature/bundle --precision int8 --precision fp32 --force

shipped: .venv/ready  ## Write the man pages and completions again, of what the commands declare
	$(BIN)/python -m tools.shipped

bench-quick: .venv/ready  ## PyTorch, plain ONNX Runtime and sao-onnx at full size, one round: some minutes, 16 GB of disk
	$(BIN)/python -m bench.compare --quick --results scratch/quick

bench: .venv/ready  ## Every contender, growth, fidelity and the rehearsal; writes bench/results: an hour, 25 GB of disk
	$(BIN)/python -m bench.compare
	$(BIN)/python -m bench.fidelity
	$(BIN)/python -m bench.profile
	$(BIN)/python -m bench.rehearsal

clean:  ## Remove environments, builds and scratch
	rm -rf .venv .venv-demo .venv-docs build dist scratch
