# make demo     the main job from nothing: environment, install, a network's density and its particles on 2 ranks
# make help     everything else

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?=
RANKS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MPIRUN := $(BIN)/mpirun
CASES := $(wildcard cases/*.toml)
LONG := studies/three_spin_d25.toml studies/three_spin_wide.toml
STUDIES := $(filter-out $(LONG),$(wildcard studies/*.toml))
JOBS ?= 2
WORKERS ?= 2

# One thread per rank: the ranks are the parallelism, and threads of BLAS and numba on top of them only compete for the cores.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export NUMBA_NUM_THREADS ?= 1
# No questions, and nothing of the user's other environments.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

.PHONY: help install demo cases studies test test-serial test-mpi coverage golden lint format types bench reliability api pictures clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo
	@echo "PYTHON=/path/to/python   the Python (>= 3.12) that makes .venv; RANKS=n   ranks for demo, cases, pictures; JOBS=n   points of a study at a time; WORKERS=n   tests at a time"

# The stamp is written last. An install that was cut short is done again from an empty .venv, since pip takes a package that lost its
# files for installed; so is a .venv whose Python is gone or too old.
$(STAMP): pyproject.toml constraints.txt
	@if [ -e $(VENV)/.unfinished ] || ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
	    python=$$(.ci/find_python "$(PYTHON)"); \
	    "$$python" .ci/check_machine.py install; \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear $(VENV); \
	fi
	@$(BIN)/python .ci/check_machine.py install
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null
	@echo "installing mvpde and what it needs into $(VENV) (one to three minutes)"
	@touch $(VENV)/.unfinished
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[wheel,test,lint]'
	@mv $(VENV)/.unfinished $@

install: $(STAMP) ## make .venv and install mvpde with everything it needs

demo: $(STAMP) ## the main job: cases/circle_rbf.toml on 2 ranks, into results/circle_rbf
	$(MPIRUN) -n $(RANKS) $(BIN)/mvpde run cases/circle_rbf.toml --out results/circle_rbf --overwrite

cases: $(STAMP) ## every case in cases/, into results/
	@for case in $(CASES); do \
	    echo "== $$case"; \
	    $(MPIRUN) -n $(RANKS) $(BIN)/mvpde run $$case --out results/$$(basename $$case .toml) --overwrite; \
	done

# A verdict is a measurement, whatever it says; what fails is a study that could not be computed, or some of its points. The others
# are computed all the same, unless it was stopped (exit code 5). What is done is not computed again.
studies: $(STAMP) ## every study in studies/ but the long one, into results/studies/, with their reports and all verdicts
	@began=$$SECONDS; folders=(); missing=(); \
	for study in $(STUDIES); do \
	    folder=results/studies/$$(basename $$study .toml); start=$$SECONDS; status=0; \
	    echo "== $$study"; \
	    $(BIN)/mvpde study $$study --out $$folder --jobs $(JOBS) || status=$$?; \
	    [ $$status -ne 5 ] && [ $$status -lt 128 ] || exit $$status; \
	    echo "$$study: $$((SECONDS - start)) s"; \
	    [ ! -e $$folder/points.json ] || folders+=($$folder); \
	    points=$$($(BIN)/mvpde study $$study --out $$folder --dry-run 2>/dev/null | tail -n 1) || true; \
	    [ $$status -eq 0 ] && [[ $$points == *" 0 failed, 0 waiting"* ]] || missing+=($$study); \
	done; \
	echo "== verdicts"; \
	$(BIN)/mvpde report "$${folders[@]}" --out results/studies/report; \
	echo "results/studies/report/index.html: $${#folders[@]} studies in $$((SECONDS - began)) s"; \
	[ $${#missing[@]} -eq 0 ] || { echo "not all points could be computed: $${missing[*]}" >&2; exit 1; }

test: test-serial test-mpi ## the tests: serial, then under mpirun -n 2 and -n 3

test-serial: $(STAMP) ## the tests on one rank, WORKERS of them at a time (PYTEST_ARGS="-k name" to choose)
	@$(BIN)/python .ci/check_machine.py libraries
	MPIR_CVAR_ENABLE_HEAVY_YIELD=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-mpi: $(STAMP) ## the tests on 2 ranks, and those marked "ranks" on 3
	$(MPIRUN) -n 2 $(BIN)/python -m pytest -q -p no:cacheprovider $(PYTEST_ARGS)
	$(MPIRUN) -n 3 $(BIN)/python -m pytest -q -p no:cacheprovider $(PYTEST_ARGS)

# The files of all processes lie in .coverage.d until they are put together.
coverage: export COVERAGE_FILE := $(CURDIR)/.coverage.d/.coverage
coverage: $(STAMP) ## which lines the tests reach, on one and two ranks together; as long as these tests
	@rm -rf .coverage.d && mkdir .coverage.d
	COVERAGE_FILE=$$COVERAGE_FILE.serial $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --cov --cov-report= $(PYTEST_ARGS)
	$(MPIRUN) -n 2 $(BIN)/python -m coverage run -m pytest -q -p no:cacheprovider $(PYTEST_ARGS)
	$(BIN)/python -m coverage combine -q .coverage.d
	$(BIN)/python -m coverage report

golden: $(STAMP) ## renew the golden files in tests/golden, telling every number that changes (NAMES="circle_rbf lln" for some)
	$(BIN)/python tests/golden/golden.py $(NAMES)

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP) ## let ruff format the sources
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP) ## mypy
	$(BIN)/mypy

bench: $(STAMP) ## speed and memory beside what this machine can do; the table is written to mpi_runs/
	$(BIN)/python mpi_runs/bench.py

reliability: $(STAMP) ## how far the error estimates of densities hold, over all cases; half an hour, what is done is kept in results/reliability
	$(BIN)/python mpi_runs/reliability.py --docs

api: $(STAMP) ## docs/api.md from the docstrings
	$(BIN)/python docs/make_api.py

pictures: demo ## the pictures of README and docs
	@mkdir -p docs/images
	$(BIN)/mvpde run cases/kuramoto_frequencies.toml --overwrite
	@cp results/kuramoto_frequencies/labels.png docs/images/kuramoto_frequencies.png
	$(BIN)/mvpde run cases/deep_network.toml --overwrite
	@cp results/deep_network/density.png docs/images/deep_network_density.png
	$(BIN)/mvpde run cases/mean_field_resnet.toml --overwrite --without network
	@cp results/mean_field_resnet/labels.png docs/images/mean_field_resnet.png
	@for picture in results/circle_rbf/*.png; do cp "$$picture" docs/images/circle_rbf_$$(basename "$$picture"); done

clean: ## remove results and caches, keep .venv
	rm -rf results build dist .pytest_cache .mypy_cache .ruff_cache .coverage.d
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also remove .venv
	rm -rf $(VENV)
