# make shows what there is to do. Variables can be given behind it: make train BACKEND=cupy

PYTHON  ?= python3
VENV    ?= .venv
BACKEND ?= numpy
CUDA    ?= 12
TORCH   ?= torch==2.13.0
JAX     ?= jax
ARGS    ?=

# the backends that test-all asks for
BACKENDS ?= numpy,numpy:numba,array-api-strict:device1,torch,jax

# the branch that docs-version writes the documentation of releases to
PAGES ?= pages

# what test-versions asks for
VERSIONS ?= 3.11 3.12 3.13 3.14

# what fuzz asks for: how many networks, from which seed on, on which backends, torch among them;
# jax takes some five seconds to compile each network
N      ?= 2000
SEED   ?= 0
FUZZED ?= numpy,array-api-strict:device1,torch

BIN  := $(VENV)/bin
DONE := $(VENV)/.xpnn-
PIP  := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The stamp file of the extra that a backend needs: "torch:cuda:0" needs torch, numpy needs none.
comma := ,
list   = $(subst $(comma), ,$(1))
extra_of_cupy             := cuda$(CUDA)
extra_of_torch            := torch
extra_of_jax              := jax
extra_of_array-api-strict := test
# what is asked for beyond what the extra itself says
release_of_torch = '$(TORCH)'
release_of_jax   = '$(JAX)'
library  = $(firstword $(subst :, ,$(1)))
extras   = $(if $(filter numpy:numba,$(1)),fast,$(extra_of_$(call library,$(1))))
stamps   = $(sort $(foreach spec,$(call list,$(1)),$(addprefix $(DONE),$(call extras,$(spec)))))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help train test test-all test-versions test-oldest faults fuzz lint types docs docs-check docs-serve docs-version package bench clean

help:  ## Show this list
	@echo "make TARGET [VARIABLE=value ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PYTHON=$(PYTHON) BACKEND=$(BACKEND) CUDA=$(CUDA) TORCH=$(TORCH) JAX=$(JAX)"
	@echo "           VENV=$(VENV) BACKENDS=$(BACKENDS) ARGS=$(ARGS)"
	@echo "           VERSIONS=$(VERSIONS) PAGES=$(PAGES)"
	@echo "           N=$(N) SEED=$(SEED) FUZZED=$(FUZZED)"

train: $(DONE)plot $(call stamps,$(BACKEND))  ## Train on the digits with BACKEND, results go under runs/
	$(BIN)/xpnn train --backend $(BACKEND) $(ARGS)

test: $(DONE)test  ## Test on NumPy and array-api-strict
	$(BIN)/pytest $(ARGS)

test-all: $(DONE)test $(call stamps,$(BACKENDS))  ## Test on all of BACKENDS, installing what they need
	XPNN_TEST_BACKENDS=$(BACKENDS) $(BIN)/pytest $(ARGS)

test-versions: test-oldest  ## Test each of VERSIONS of Python that is found, and the oldest dependencies
	@missing= ; for version in $(VERSIONS); do \
	    if python$$version -c '' 2>/dev/null; then \
	        echo "=== Python $$version"; \
	        $(MAKE) --no-print-directory test PYTHON=python$$version VENV=$(VENV)-$$version || exit 1; \
	    else missing="$$missing $$version"; fi; \
	done; \
	[ -z "$$missing" ] || echo "not tested, as there is no such Python here:$$missing"

test-oldest: OLDEST = $(VENV)-oldest
test-oldest:  ## Test with the oldest releases of what pyproject.toml asks for
	$(PYTHON) -m venv --clear $(OLDEST)
	$(PYTHON) tests/oldest.py > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint $(OLDEST)/oldest.txt --editable '.[test]'
	$(OLDEST)/bin/pytest $(ARGS)

faults: $(DONE)test  ## Try to break it, and print how many faults were survived
	$(BIN)/python -m tests.reliability $(ARGS)

fuzz: $(DONE)test $(call stamps,$(FUZZED))  ## Compare N random networks, from SEED on, with PyTorch's autograd
	XPNN_TEST_BACKENDS=$(FUZZED) $(BIN)/pytest tests/fuzz --networks $(N) --networks-seed $(SEED) $(ARGS)

lint: $(DONE)lint  ## Check format, code, the order of imports, and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/codespell *.md benchmarks docs examples xpnn

types: $(DONE)lint  ## Check types
	$(BIN)/mypy

# A warning about a release of MkDocs that is not asked for.
docs docs-serve docs-version: export NO_MKDOCS_2_WARNING = 1
# Pages train small networks, where more threads only get in each other's way.
docs docs-serve docs-version: export OMP_NUM_THREADS = 1
docs: $(DONE)docs  ## Build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

docs-check: $(DONE)browser,docs,test docs  ## Build the documentation, and look at it and at the x-ray in Chromium
	$(BIN)/pytest tests/documentation tests/xray/test_browser.py

docs-serve: $(DONE)docs  ## Show the documentation on 127.0.0.1:8000, anew when its files change
	$(BIN)/mkdocs serve --watch xpnn

docs-version: RELEASE = $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' xpnn/version.py)
docs-version: $(DONE)docs  ## Put the documentation of this release beside the others, in the branch PAGES
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mike deploy --branch $(PAGES) --update-aliases \
	    --alias-type redirect $(RELEASE) latest
	$(BIN)/mike set-default --branch $(PAGES) latest

# The wheel is built from the sdist: what is installed comes out of both.
package: $(DONE)package  ## Build the sdist, and the wheel from it, check both, and run what is installed
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv --clear --without-pip $(VENV)-package
	$(BIN)/python -m pip --python $(VENV)-package install --quiet --disable-pip-version-check dist/*.whl
	cd $(VENV)-package && bin/xpnn --version && bin/xpnn train --epochs 2 --quiet --out runs
	rm -rf $(VENV)-package

bench: $(DONE)plot $(call stamps,$(BACKEND))  ## Time training steps
	$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Remove the virtual environment, caches and built files; runs/ stays
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-package $(VERSIONS:%=$(VENV)-%) build dist site .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -prune -exec rm -rf {} +

# A stamp is newer than pyproject.toml once its extra is installed as that file says.
$(DONE)venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "xpnn needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1 | tail -n 1)." >&2; \
	    echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Several extras at once, as in .xpnn-docs,lint, are installed by one run of pip.
$(DONE)%: pyproject.toml $(DONE)venv
	$(PIP) $(foreach extra,$(call list,$*),$(release_of_$(extra))) --editable '.[$*]'
	@touch $(addprefix $(DONE),$(call list,$*)) $@
