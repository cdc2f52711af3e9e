# Two commands for a fresh Linux machine with Python >= 3.11, git and make:
#   make demo    set up, then train a policy inside the shipped Reach world and check it in physics
#   make test    set up, then run the tests
#
# Which torch? On Linux the registry's torch==2.13.0 is the CUDA build (about 4 GB more on disk, and it runs on a CPU
# too). For the small CPU build name PyTorch's CPU wheel index, which its installation page gives, in
# PIP_EXTRA_INDEX_URL, or a folder that holds the wheel in PIP_FIND_LINKS: pip then takes torch 2.13.0+cpu from there.

VENV ?= .venv
PYTHON ?=
JOBS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=

BIN := $(VENV)/bin
# One stamp for each content of these two files: touching them costs nothing, changing them sets up again.
STAMP := $(VENV)/.ready-$(shell cat setup.py constraints.txt | cksum | cut -d' ' -f1)

.PHONY: help setup demo test lint format summaries docs docs-serve clean

help:
	@echo "make demo    train in the shipped Reach world, evaluate there and in PyBullet, write a video and a report (outputs/demo)"
	@echo "make test    run the tests (JOBS=2 processes; PYTEST_ARGS='-k name' to choose)"
	@echo "make lint    ruff, the order of the rooms (import-linter), mypy, the size of functions"
	@echo "make format  ruff format, and what ruff can mend"
	@echo "make summaries   a line a bar of every benchmark and study, from their committed results"
	@echo "make docs    build the documentation in site/ (make docs-serve to look at it while writing)"
	@echo "make setup   only make $(VENV) (PYTHON=python3.11 to choose the interpreter)"
	@echo "make clean   remove $(VENV)"

setup: $(STAMP)

$(STAMP): setup.py constraints.txt
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/setup
	@rm -f $(VENV)/.ready-* && touch $@

demo: setup
	$(BIN)/wm-gym demo $(DEMO_ARGS)

# One thread a process: two processes with two threads each on two cores slow each other down.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -q -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python .ci/sizes.py
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

summaries: setup
	$(BIN)/python benchmarks/summaries.py

docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

clean:
	rm -rf $(VENV)
