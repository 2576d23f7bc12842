# cvtrace: `make demo` and `make test` are all that a fresh machine needs; both install what is missing.
PY := .venv/bin/python
# Tests without privileges share nothing, so each CPU runs some of them.
UNIT := -n logical --dist worksteal tests/unit tests/fuzz
# The other tests run two at a time, each file in one process, as its tests share a mount.
PAIRS := -n 2 --dist loadfile --ignore tests/unit --ignore tests/fuzz --ignore tests/truth
# They assert how long something took: nothing else of this run may take a CPU meanwhile.
IN_SERIES := tests/truth
.PHONY: help setup test-tools demo test test-unit test-install test-kernels lint docs runtimes experiments man dist bench fuzz soak clean
# Tests start Python a thousand times: each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE
MINUTES ?= 30
SECONDS_EACH ?= 600

help:
	@printf '%s\n' 'make setup  install what is missing' 'make demo   trace phi3-qa.py on an embedded CVMFS' \
	  'make test   lint and all tests' 'make lint   ruff, mypy, import directions' \
	  'make test-unit     the tests that need no privileges: a minute' \
	  'make test-install  install in fresh roots of Debian 12 and 13, as root' \
	  'make test-kernels  trace a load on other kernels, emulated: a quarter of an hour' \
	  'make docs   record new runs and write output, reports and pictures of the documentation from them, as root' \
	  'make experiments  measure the states of the caches and the sweep of docs/experiments.md, as root: 15 minutes' \
	  'make runtimes     compare runtimes on the lab for docs/runtimes.md, as root: 3 minutes' \
	  'make man    write the manual pages, docs/commands.md and docs/api.md from commands and docstrings' \
	  'make dist   wheel and source distribution, with manual pages, in dist/' \
	  'make bench  what tracing costs, as ratios' 'make fuzz   fuzz the parsers, SECONDS_EACH=600' \
	  'make soak   loads in a loop under one recording, MINUTES=30' 'make clean  remove what was built'

setup:
	@scripts/setup.sh

demo: setup
	@$(PY) examples/demo.py

test-tools:
	@scripts/setup.sh --tests

test: test-tools lint
	@code=0; $(PY) -m pytest -q $(UNIT) || code=1; \
	  $(PY) -m pytest -q $(PAIRS) || code=1; \
	  $(PY) -m pytest -q $(IN_SERIES) || code=1; exit $$code

test-unit: setup
	@$(PY) -m pytest -q $(UNIT)

test-install:
	@python3 -m tests.install $(NAMES)

test-kernels: setup
	@$(PY) -m tests.kernels

lint: setup
	@$(PY) -m ruff format --check --quiet . || { $(PY) -m ruff format --diff . 2>&1 | head -40; false; }
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy --no-error-summary
	@flock pyproject.toml .venv/bin/lint-imports >/dev/null 2>&1 || .venv/bin/lint-imports
	@flock pyproject.toml sh -c '.venv/bin/mkdocs build --strict --site-dir site >site.log 2>&1 || { cat site.log; rm -f site.log; false; }; \
	  code=$$?; rm -f site.log; exit $$code'

docs: setup
	@$(PY) scripts/make_docs.py

runtimes: test-tools
	@$(PY) -m benchmarks --update runtimes

experiments: test-tools
	@for kind in lab $(if $(CVTRACE_TEST_CVMFS2),cvmfs2) sweep; do $(PY) scripts/make_experiments.py $$kind || exit; done

man: setup
	@$(PY) scripts/make_man.py
	@$(PY) scripts/make_api.py
	@$(PY) scripts/make_runtimes.py

dist: man
	@rm -rf dist build
	@$(PY) -m build --outdir dist . >dist.log 2>&1 || { tail -20 dist.log; false; }
	@rm -f dist.log && ls dist

bench: setup
	@$(PY) -m benchmarks

fuzz: setup
	@$(PY) -c 'import atheris' 2>/dev/null || .venv/bin/pip install -q atheris
	@$(PY) tests/fuzz/fuzz.py --seconds $(SECONDS_EACH) $(TARGETS)

soak: setup
	@$(PY) tests/soak/soak.py --minutes $(MINUTES)

clean:
	@rm -rf .venv build dist man site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis demo-out bench-out tests/fuzz/found tests/fuzz/new
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
