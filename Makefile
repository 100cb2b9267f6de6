# The whole developer interface: make demo | test | lint | bench | clean
# A bare Debian or Ubuntu with Python 3.11+, git and make is enough; tests/setup.sh brings the rest.

PYTEST_ARGS ?=
BIN := .venv/bin

.PHONY: demo test lint bench clean

demo: .venv/.installed
	$(BIN)/launcher demo
	$(BIN)/launcher run jobs/finetune --on local

# lint first: it takes seconds; pytest last: its closing line is the verdict
test: lint
	@bash tests/setup.sh programs
	$(BIN)/pytest $(PYTEST_ARGS)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed
	@bash tests/setup.sh programs
	@for script in bench/[a-z]*.py; do echo "== $$script"; $(BIN)/python -m bench.$$(basename $$script .py) || exit 1; done

clean:
	bash tests/setup.sh clean
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis dist runs

.venv/.installed: pyproject.toml tests/setup.sh
	bash tests/setup.sh python
	@touch $@
