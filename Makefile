# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
OUT ?= out

.PHONY: demo test fuzz lint site clean

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
		"restore needs Python 3.10 or newer, for example: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# Without torchvision, which fits one build of torch only: the tests have a stand-in.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps spandrel einops
	touch $@

demo: $(VENV)/installed
	mkdir -p $(OUT)
	$(BIN)/restore derain samples/rocket_rain.jpg -o $(OUT)/rocket_derained.jpg --overwrite

test: $(VENV)/installed
	$(BIN)/python -m pytest

fuzz: $(VENV)/installed
	$(BIN)/python -m pytest tests/test_fuzz.py --hypothesis-profile=fuzz

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: $(VENV)/installed
	$(BIN)/mkdocs build

clean:
	rm -rf $(VENV) build dist out site
