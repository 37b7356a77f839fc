# `make demo` runs the main job, `make test` passes the tests; both install what they need into .venv.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types layers format docs stubs fuzz clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# A machine may call its Python 3.11 something else.
$(STAMP): pyproject.toml constraints.txt hatch_build.py mixer/api/_native.pyx mixer/server/http2/_hpack.pyx
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; give it as make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_BUILD_CONSTRAINT=$(CURDIR)/constraints.txt \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## run BookInfo behind real Envoys that ask Mixer, show what came of it (KEEP=1 goes on until Ctrl-C)
	@$(BIN)/python -m loadtest.demo $(if $(KEEP),--keep)

test: $(STAMP) ## run all tests
	$(BIN)/python -m pytest -n 2 --dist loadscope $(PYTEST_ARGS)

check: $(STAMP) lint types layers test ## exactly what CI runs

lint: $(STAMP) ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## strict types
	$(BIN)/mypy

layers: $(STAMP) ## imports go down only
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stubs: $(STAMP) ## generate mixer/api/gen from the .proto sources
	$(BIN)/python -m mixer.api.generate

docs: $(STAMP) ## write the tables of docs/reference from the code
	$(BIN)/python -m docs.generate_reference

fuzz: $(STAMP) ## fuzz the decoders of requests and of header blocks for a minute each
	$(BIN)/python -m tests.api.fuzz_decode --seconds 60
	$(BIN)/python -m tests.server.fuzz_header_table --seconds 60

clean: ## remove what was installed and cached
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
