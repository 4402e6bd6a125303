# make run    sets everything up, fetches slides, checks them, and says where the report lies
# make test   sets everything up, with the test tools, and runs the tests
# make lint   the linter alone        make lock   pins anew what constraints.txt pins        make clean

ifeq ($(OS),Windows_NT)
  PYTHON ?= python
  BIN := .venv/Scripts
else
  PYTHON ?= python3
  BIN := .venv/bin
endif
PY := $(BIN)/python

.PHONY: run test lint lock clean

run: .venv/ready
	$(PY) get_data.py
	$(PY) pipeline.py

test: .venv/ready-to-test
	$(BIN)/ruff check .
	$(PY) -m pytest $(ARGS)

lint: .venv/ready-to-test
	$(BIN)/ruff check .

# Each stamp is written last, so that an install that was cut is taken up again by the next call.
.venv/ready: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@echo ready > $@

.venv/ready-to-test: .venv/ready tests/requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@echo ready > $@

lock: .venv/ready
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links \
		requirements.txt tests/requirements.txt --output-file constraints.txt

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
