# Everything below runs in .venv, which `make setup` fills; each target does the set-up it needs.

PYTHON ?= python3
# Which build of torch: cpu, xpu or cuda.
TORCH ?= cpu
TORCH_VERSION ?= 2.13.0
PROMPT ?= a red circle moving right on a black background
OUT ?= demo.mp4
# For chaos: how many faults, drawn from which seed; or a planted bug to be caught.
FAULTS ?= 40
SEED ?= 1
PLANTED ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up-$(TORCH)
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
XPU_INDEX := https://download.pytorch.org/whl/xpu
CPU_INDEX := https://download.pytorch.org/whl/cpu

# Through the environment and unexpanded, where no quote, space or $ in them can do harm.
override PROMPT := $(value PROMPT)
override OUT := $(value OUT)
export PROMPT OUT

.DEFAULT_GOAL := help
.PHONY: help setup demo check test chaos bench clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo
	@echo 'Variables: PYTHON=$(PYTHON) (3.11 to 3.13), TORCH=cpu|xpu|cuda, PROMPT="..." and OUT=clip.mp4 for demo, FAULTS, SEED, PLANTED=fence|message|outage|books for chaos'

setup: $(STAMP) ## Make .venv and install everything, torch for TORCH=cpu|xpu|cuda

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"rushes needs Python 3.11 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@ls $(VENV)/.set-up-* 2>/dev/null | grep -qv -- '-$(TORCH)$$' && $(PIP) uninstall --yes torch || true
	@echo "installing torch $(TORCH_VERSION) for $(TORCH)"
	@case '$(TORCH)' in \
	  cpu) $(PIP) install 'torch==$(TORCH_VERSION)+cpu' 2>/dev/null \
	    || $(PIP) install 'torch==$(TORCH_VERSION)+cpu' --extra-index-url $(CPU_INDEX) ;; \
	  xpu) $(PIP) install 'torch==$(TORCH_VERSION)' --index-url $(XPU_INDEX) ;; \
	  cuda) $(PIP) install 'torch==$(TORCH_VERSION)' ;; \
	  *) echo "TORCH is cpu, xpu or cuda, not '$(TORCH)'" >&2; exit 2 ;; \
	esac
	@echo "installing rushes and its tools"
	@$(PIP) install --constraint constraints.txt --editable '.[pipeline,dev]'
	@rm -f $(VENV)/.set-up-*
	@touch $@

demo: setup ## Make one clip through the whole service: PROMPT="..." OUT=clip.mp4
	@$(BIN)/rushes demo --prompt "$$PROMPT" --out "$$OUT"

check: setup ## Lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## check, then every test
# A failing test is tried once more, aloud: gangs, browsers and servers share two cores here.
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --reruns 1

chaos: setup ## Kill, stop and cut off everything, check that no job is lost: FAULTS=200 SEED=1
	$(BIN)/python -m tests.chaos --faults $(FAULTS) --seed $(SEED) $(if $(PLANTED),--planted $(PLANTED))

bench: setup ## What the service adds to a generation
	$(BIN)/rushes bench overhead

clean: ## Remove .venv and what tools leave behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
