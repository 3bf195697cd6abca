# make up      start Trellis here, with demo tenants, and say where to log in
# make test    everything that must hold before a change is accepted
# make bench   the benchmarks
# make lock    resolve the dependencies of pyproject.toml anew (needs uv)

MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
BIN := .venv/bin
# Set once set-up is complete; older than what it was made from, it is made again.
READY := .venv/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: up test bench lock

up: $(READY)
	@exec $(BIN)/python -m server up

test: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@if grep -q '^\[tool\.importlinter' pyproject.toml; then $(BIN)/lint-imports --no-cache; fi
	@$(BIN)/python -m pytest -q -n 2

bench: $(READY)
	@exec $(BIN)/python -m bench

# The lock holds hashes and no addresses, so that any index or mirror will do.
lock:
	@uv pip compile --quiet --universal --python-version 3.11 --extra test --extra build \
		--generate-hashes --no-header --no-emit-index-url --output-file requirements.lock pyproject.toml

$(READY): requirements.lock pyproject.toml
	@python=; \
	for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			incomplete=$$candidate; \
			if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
		fi; \
	done; \
	if [ -z "$$python" ] && [ -n "$$incomplete" ]; then \
		echo "$$incomplete cannot make virtual environments: install its venv package (Debian: apt install python3-venv)." >&2; \
		exit 1; \
	elif [ -z "$$python" ]; then \
		echo "Trellis needs Python 3.11 or newer. Install it, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "Setting up .venv (once) ..."; \
	"$$python" -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
