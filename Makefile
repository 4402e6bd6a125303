# make run    sets everything up, fetches slides, checks them, and says where the report lies
# make test   sets everything up, with the test tools, and runs the tests      (make test ARGS="-k blank")
# make lint   the linter alone
# make pictures   draws the pictures of the documents anew, from real runs
# make lock   writes constraints.txt anew from the newest releases that requirements.txt allows
# make clean  removes what the set-up made; data/ and output/ stay
#
# PYTHON=python3.12 make run   chooses the interpreter; any of 3.11, 3.12 and 3.13 will do.

ifeq ($(OS),Windows_NT)
  SHELL := sh.exe
  PYTHON ?= python
  BIN := Scripts
else
  PYTHON ?= python3
  BIN := bin
endif
PY := .venv/$(BIN)/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-input

# To pip an index that does not answer is a conflict between packages. Other failures keep pip's words.
define install
	@$(PY) $(PIP_INSTALL) -r $(1) 2>.venv/pip.txt || { \
		if grep -q "connection broken by" .venv/pip.txt && grep -Eq "ResolutionImpossible|No matching dist" .venv/pip.txt \
			|| grep -Eq "Max retries exceeded|Read timed out" .venv/pip.txt; \
		then echo "The package index is out of reach: connect to the network, and run it again." >&2; \
		else cat .venv/pip.txt >&2; fi; exit 1; }
endef

.PHONY: run test lint pictures lock clean can-make-a-venv another-python

run: .venv/ready
	$(PY) get_data.py --enough
	$(PY) check.py setup
	$(PY) pipeline.py

test: .venv/ready-to-test
	$(PY) -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

pictures: .venv/ready
	$(PY) docs/pictures.py

lint: .venv/ready-to-test
	$(PY) -m ruff check .

# An interpreter asked for by name, and not the one that .venv was made with, makes .venv anew.
ifneq ($(filter environment command,$(firstword $(origin PYTHON))),)
  ifneq ($(filter-out $(PYTHON),$(shell cat .venv/made-with 2>/dev/null)),)
    .venv/ready: another-python
  endif
endif

# .venv/ready stands only beside a whole installation. Where one was cut, the next call starts afresh, since pip
# takes a package for installed that it had only half unpacked; what was fetched comes from pip's cache.
.venv/ready: requirements.txt constraints.txt
	@if test -z "$(filter another-python,$^)" -a -e $@ && $(PY) -m pip --version >/dev/null 2>&1; then :; else \
		$(MAKE) --no-print-directory can-make-a-venv && \
		$(PYTHON) -m venv --clear .venv && echo "$(PYTHON)" >.venv/made-with; fi
	@rm -f $@
	@echo "Installing the workshop's packages into .venv: 220 MB to fetch, 900 MB on disk, one to five minutes."
	$(call install,requirements.txt)
	@echo ready >$@

.venv/ready-to-test: .venv/ready tests/requirements.txt
	@rm -f .venv/ready
	@echo "Installing the test tools into .venv: 90 MB to fetch, 300 MB on disk, a minute or two."
	$(call install,tests/requirements.txt)
	@echo ready >.venv/ready
	@echo ready >$@

# Debian keeps ensurepip in a package of its own; venv, run without it, leaves a folder that does not work.
can-make-a-venv:
	@$(PYTHON) -c "pass" >/dev/null 2>&1 || { echo "No Python answers to '$(PYTHON)': install Python 3.11, 3.12" \
		"or 3.13, or name one that you have: make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c "import sys; v = '%d.%d' % sys.version_info[:2]; \
		sys.exit(None if v in ('3.11', '3.12', '3.13') else '\'$(PYTHON)\' is Python ' + v + ', and the workshop ' \
		'needs 3.11, 3.12 or 3.13. Name one that you have: make run PYTHON=python3.12')"
	@$(PYTHON) -c "import ensurepip" >/dev/null 2>&1 || { v=`$(PYTHON) -c "import sys; print(sys.version_info[1])"`; \
		echo "python3-venv is missing: sudo apt install python3-venv  (or python3.$$v-venv)" >&2; exit 1; }

# Locked without the constraints, or it would only repeat them. One version serves every Python where one can.
lock: can-make-a-venv
	$(PYTHON) -m venv .venv/lock
	.venv/lock/$(BIN)/python $(PIP_INSTALL) uv
	sed '/^-c /d' requirements.txt tests/requirements.txt >.venv/lock/all.in
	.venv/lock/$(BIN)/python -m uv pip compile --quiet --upgrade --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --python .venv/lock/$(BIN)/python \
		--universal --python-version 3.11 --fork-strategy fewest .venv/lock/all.in --output-file .venv/lock/all.txt
	{ echo "# Made by 'make lock': what was tested, for Python 3.11 to 3.13 on Linux, macOS and Windows."; \
		cat .venv/lock/all.txt; } >constraints.txt

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
