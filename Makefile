# georecon. `make` sets up .venv and makes the laptop edition; `make help` lists the rest.
# Every target does its own set-up; a finished set-up costs a fraction of a second.

PYTHON ?=
ARGS ?=
EDITION ?=
CELL ?=
export PYTHON TORCH TORCH_INDEX
# a user's other Python is no part of this one
unexport PYTHONHOME PYTHONPATH PYTHONSTARTUP

BIN := .venv/bin
CONFIG = $(if $(EDITION),edition=$(EDITION)) $(if $(CELL),cell=$(CELL))
LAUNCH = $(BIN)/python -m georecon.launch $(ARGS) $(if $(strip $(CONFIG)),--config $(CONFIG)) \
	$(if $(strip $(ARGS) $(CONFIG)),$(if $(filter --,$(ARGS)),,--))

# The first command below that runs starts bootstrap.py, which looks for the right Python itself.
SETUP = @for p in $(BIN)/python "$$PYTHON" python3 python3.13 python3.12 python3.11 python3.14 \
	python python2; do \
	if [ -n "$$p" ] && "$$p" -c "" >/dev/null 2>&1; then \
	"$$p" envs/bootstrap.py; exit $$?; fi; done; \
	echo "georecon needs Python 3.11 to 3.14; none found. Install one, or name it:" \
	"make PYTHON=/path/to/python3.12" >&2; exit 1

.PHONY: .workflow laptop setup test test-long test-slurm lint manual bench clean-results lock help
.NOTPARALLEL:
.SUFFIXES:

laptop: setup
	@$(LAUNCH)

setup:
	$(SETUP)

test: setup
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# what would double the time of `make test`: every documented command, new users' tasks, other processors
test-long: setup
	@$(BIN)/python -m pytest -m long -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# on a Slurm cluster and a Grid Engine of their own on this machine; skipped, with the reason, where there can be none
test-slurm: setup
	@$(BIN)/python -m pytest -m slurm -rs tests/slurm tests/sge $(ARGS)

# every check runs, also after one that failed
lint: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH"; failed=; \
	check() { echo "lint: $$*"; "$$@" || failed="$$failed $$1"; }; \
	check ruff check .; \
	check ruff format --check .; \
	check mypy; \
	check lint-imports; \
	check python docs/draw_architecture.py --check; \
	check snakefmt --check Snakefile rules workflow/Snakefile; \
	check yamllint --strict .; \
	check snakemake --lint; \
	if [ -n "$$failed" ]; then echo "lint: failed:$$failed" >&2; exit 1; fi; \
	echo "lint: all clean"

# the pages of docs/ and the Python API as a site; Sphinx is no part of the default environment
manual: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --requirement envs/manual.txt
	@$(BIN)/python docs/build_manual.py

# each writes its numbers to benchmarks/results, those of the second loop one file for each processor; page.py puts
# them into docs/performance.md
bench: setup
	@mkdir -p benchmarks/results; for name in sdf growth precision optimizer gpu_step; do echo "== $$name"; \
	$(BIN)/python benchmarks/$$name.py --json benchmarks/results/$$name.json || echo "== $$name: no numbers"; done; \
	for name in train_step floor memory; do echo "== $$name"; \
	$(BIN)/python benchmarks/$$name.py --json benchmarks/results || echo "== $$name: no numbers"; done; \
	$(BIN)/python benchmarks/page.py

clean-results:
	rm -rf results

lock: setup
	@$(BIN)/python envs/make_lock.py

help:
	@echo "make                 set up .venv, then every table and figure of the laptop edition"
	@echo "make table_qm9       one table and what it needs (any target of the workflow: tables, figures,"
	@echo "                     report, table_md17, ...; all: .venv/bin/snakemake --list-target-rules)"
	@echo "make doctor          can it run here? says what would fail"
	@echo "make trial           a few steps of every kind of training: what they take here"
	@echo "make plan            trainings left; their hours, memory and disk from that; downloads"
	@echo "make web             a page of what is made, what is missing and what trains now; at any time"
	@echo "make audit           files hashed, every number computed again; deeper: docs/audit.md"
	@echo "make rerun CELL=qm9/coord/homo   one cell trained again: old, new, difference"
	@echo "make bundle          results as one file that anybody can verify"
	@echo "make test            the test suite"
	@echo "make test-long       its long parts: documented commands, new users' tasks, other processors"
	@echo "make test-slurm      the Slurm and Grid Engine profiles for real, here (root, Debian packages)"
	@echo "make lint            ruff, mypy, snakefmt, yamllint, snakemake --lint, lint-imports, docs/architecture.md"
	@echo "make manual          the manual as a site, build/manual/index.html"
	@echo "make bench           the benchmarks, each against a peer in the same run"
	@echo "make setup           only .venv, from envs/lock.txt"
	@echo "make clean-results   remove results/ (keeps resources/ and .venv)"
	@echo "make lock            write envs/lock.txt and the files made from it anew"
	@echo "Options: PYTHON=python3.12  EDITION=name  ARGS='--cores 1 -n'  ARGS='--configfile my.yaml'"
	@echo "         TORCH=cpu|cuda|cu128  TORCH_INDEX=url"

# any other name is a target of the workflow, also where a file has that name: Snakemake knows whether
# it is up to date; make must not look for a way to make itself
Makefile: ;
.workflow: ;
%: .workflow
	$(SETUP)
	@$(LAUNCH) $@
