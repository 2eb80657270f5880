PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Other people's implementations that tests compare with; their own pins would hold numpy back.
PEERS := cityscapesScripts==2.3.0 pyquaternion==0.9.9

.PHONY: setup headless demo test faults fuzz audit lint bench bench-gpu clean

# Photographs and weights that some benchmarks use; those are skipped where it is missing.
SHARED ?= ../shared
# SAM 2.1 large's file, for bench-gpu: without it weights are random and masks are speckles.
CHECKPOINT ?=
# Processes that share the tests out, each with one thread; 0 runs them in one process.
WORKERS ?= 2

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(PEERS)
	$(BIN)/python -c 'import cv2' 2>/dev/null || $(MAKE) headless
	touch $@

# Without a desktop's libraries (libGL) opencv-python cannot be imported; its headless build can.
headless:
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		"opencv-python-headless==$$(sed -n 's/^opencv-python==//p' constraints.txt)"

demo: setup
	$(BIN)/s4m demo

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# All trials and all damage of docs/reliability.md, whose tables it writes.
faults: setup
	rm -f .faults.jsonl
	S4M_FAULTS=all S4M_FAULTS_TABLE=$(CURDIR)/.faults.jsonl $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/faults
	$(BIN)/python tools/reliability_table.py .faults.jsonl
	rm -f .damage.jsonl
	S4M_FAULTS=all S4M_DAMAGE_TABLE=$(CURDIR)/.damage.jsonl $(BIN)/python -m pytest tests/damage
	$(BIN)/python tools/damage_table.py .damage.jsonl

# Inputs of all readers together: a hundred thousand new ones, where `make test` tries a thousand.
# It writes the table of docs/reliability.md.
FUZZ ?= 100000
fuzz: setup
	rm -f .fuzz.jsonl
	S4M_FUZZ=$(FUZZ) S4M_FUZZ_TABLE=$(CURDIR)/.fuzz.jsonl \
		$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/fuzz
	$(BIN)/python tools/fuzz_table.py .fuzz.jsonl

# Known advisories about the versions of constraints.txt; needs a network.
audit: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy s4m_pipeline tools
	$(BIN)/lint-imports --no-logo

bench: setup
	$(BIN)/python benchmarks/run_all.py --shared $(SHARED) --write docs/RESULTS.md

bench-gpu: setup
	$(BIN)/python benchmarks/run_all.py --gpu --shared $(SHARED) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

clean:
	rm -rf $(VENV) demo
