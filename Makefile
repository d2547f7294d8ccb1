# Two commands are enough: `make run` and `make test`. Both set the checkout up first (once; offline afterwards).
# Everything lives in .venv; the system's Python is not changed. Extra arguments: make run ARGS="--homes 6".

PYTHON ?= python3
ARGS ?=
RETRY ?=
VENV := .venv/bin/python
OPENMG := .venv/bin/openmg

# Text is UTF-8 whatever the locale says; nothing on this machine is reached through a proxy.
export PYTHONUTF8 := 1
# "*" (no proxy for anything) means that only while it stands alone.
comma := ,
export NO_PROXY := $(if $(filter-out *,$(NO_PROXY)),$(NO_PROXY)$(comma))$(if $(filter *,$(NO_PROXY)),*,127.0.0.1,localhost,::1)
export no_proxy := $(if $(filter-out *,$(no_proxy)),$(no_proxy)$(comma))$(if $(filter *,$(no_proxy)),*,127.0.0.1,localhost,::1)

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-slow test-setup test-faults bench bench-learning bench-edge fuzz mutate deb test-deb clean

help: ## show this list
	@echo "make run         set up, then run the whole microgrid until Ctrl-C; prints the console's URL"
	@echo "make test        set up, then run every check and the tests"
	@echo "make demo        set up, then run one demo with ARGS, e.g. ARGS=\"--slots 8 --headless --report demo.json\""
	@echo "make bench       set up, then run the benchmarks"
	@echo "make bench-learning   accuracy on measured homes: ARGS=\"--data FOLDER --seeds 3\", half an hour and more"
	@echo "make bench-edge  what an agent costs on a meter, beside collectd; ten minutes"
	@echo "make setup       set up only (RETRY=1: try again what was left out, such as the native prover)"
	@echo "make test-slow   the tests that take long; make test-setup: those of the set-up itself"
	@echo "make test-faults  kill -9, power loss, full disk, bad meters, lying hubs: docs/FAULTS.md; ARGS=\"-k power\" for some of it"
	@echo "make fuzz        witnesses with one wire changed, then bad input for the PPDL chain: ARGS=\"--seconds 600 --seed 7\""
	@echo "make mutate      take every guard away in turn; its attack test must fail: ARGS=\"--only ConfidentialToken\""
	@echo "make deb         the agent's Debian packages in dist/: ARGS=\"--arch arm64\"; make test-deb tries them in fresh roots (root)"
	@echo "make clean       remove what set-up and runs made in this checkout"

setup: ## .venv, packages, contract tools, native prover, development keys
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "There is no $(PYTHON) on this machine: install Python 3.11 or newer (Debian: sudo apt install python3 python3-venv)." >&2; \
	  exit 1; }
	@"$(PYTHON)" scripts/bootstrap.py $(if $(RETRY),--retry)

run: setup
	@exec "$(OPENMG)" demo --slots 0 $(ARGS)

demo: setup
	@exec "$(OPENMG)" demo $(ARGS)

test: setup
	@exec "$(VENV)" scripts/check.py $(ARGS)

test-slow: setup
	@exec "$(VENV)" -m pytest -m slow $(ARGS)

test-setup: setup
	@exec "$(VENV)" -m pytest tests/setup -m "slow or not slow" $(ARGS)

test-faults: setup
	@exec "$(VENV)" -m pytest tests/faults -m "slow or not slow" $(ARGS)

bench: setup
	@failed=0; for file in $(filter-out benchmarks/bench_learning.py benchmarks/bench_leakage.py benchmarks/bench_price.py benchmarks/bench_edge.py,$(wildcard benchmarks/bench_*.py)); do \
	  echo "== $$file"; "$(VENV)" "$$file" $(ARGS) || failed=1; \
	done; exit $$failed

# Its data, like those of bench_leakage.py and bench_price.py, are not part of the checkout; all take their time, as bench_edge.py does.
bench-learning: setup
	@exec "$(VENV)" benchmarks/bench_learning.py $(ARGS)

bench-edge: setup
	@exec "$(VENV)" benchmarks/bench_edge.py $(ARGS)

# Options that only one of the two knows leave the other out: --circuit; --target, --folder, --coverage.
fuzz: setup
	$(if $(findstring --target,$(ARGS))$(findstring --folder,$(ARGS))$(findstring --coverage,$(ARGS)),,@"$(OPENMG)" zk fuzz $(ARGS))
	$(if $(findstring --circuit,$(ARGS)),,@"$(OPENMG)" ppdl fuzz $(ARGS))

mutate: setup
	@exec "$(VENV)" scripts/mutate.py $(ARGS)

deb: setup
	@exec "$(VENV)" scripts/build_deb.py $(ARGS)

# As root, with mmdebstrap and, for arm64, qemu-user-static and arch-test; fetches Debian's packages.
test-deb: deb
	@exec "$(VENV)" -m pytest tests/packaging -m "slow or not slow"

clean:
	rm -rf .venv .setup.lock contracts/node_modules native/target dist .openmg benchmarks/results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
	@echo "Kept: the development keys in $${OPENMG_CACHE:-$$HOME/.cache/openmg}."
