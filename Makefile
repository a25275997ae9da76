# `make setup`, `make demo`, `make test` and `make lint` each do everything that they need, and only what is not done yet.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint clean

help:
	@echo 'make setup   a virtual environment with pinned versions, and the package built: .venv, build, install'
	@echo 'make demo    the main job on the bundled recording, in a real ROS graph: report and summary in out/demo'
	@echo 'make test    the tests'
	@echo 'make lint    ruff and mypy'
	@echo 'make clean   removes what was built; .venv stays'
	@echo 'PYTHON=/usr/bin/python3.12 names the interpreter to set up with'

setup:
	@scripts/setup.sh

# env.sh refers to variables that may be unset, as all ROS environments do.
demo: setup
	@set +u; source scripts/env.sh; wesam replay demo/tabletop.mcap --lock-step --out out/demo

test: setup
	@set +u; source scripts/env.sh; WESAM_REQUIRE_ROS=1 pytest -n auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile $(PYTEST_ARGS)

lint: setup
	@set +u; source scripts/env.sh; ruff check .; mypy

clean:
	rm -rf build install log out .mypy_cache .pytest_cache .ruff_cache .hypothesis
