# make demo | test | lint | docs | benchmark | benchmark-quick | experiment |
# experiment-quick: each sets everything up, then runs. JOBS processes share the benchmark
# and the experiment; prepared data are read from OPTAX_ADAPTIVE_DATA.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

JOBS ?= 2

.PHONY: demo test lint docs benchmark benchmark-quick experiment experiment-quick clean

demo: $(VENV)/installed-examples
	$(BIN)/python examples/quickstart.py

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The site, in build/site; a link that leads nowhere is an error.
docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict --quiet

benchmark benchmark-quick: plan = $(if $(findstring quick,$@),quick,standard)
benchmark benchmark-quick: $(VENV)/installed-test
	cd examples && ../$(BIN)/python -m benchmark.run --plan $(plan) --jobs $(JOBS)
	cd examples && ../$(BIN)/python -m benchmark.report --plan $(plan)

experiment experiment-quick: plan = $(if $(findstring quick,$@),quick,standard)
experiment experiment-quick: $(VENV)/installed-test
	cd examples && ../$(BIN)/python -m experiment.run --plan $(plan) --jobs $(JOBS)
	cd examples && ../$(BIN)/python -m experiment.report --plan $(plan)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, as in: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-examples: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[examples]'
	touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[examples,tfds,test]'
	touch $@

# What is to be checked imports what the tests do.
$(VENV)/installed-lint: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[lint]'
	touch $@

$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV)
