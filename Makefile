# `make demo` runs the main job, `make test` the tests; each sets up .venv first (quick when it is up to date).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The demo's size: quick (3 CPU minutes), full (longer, more accurate), or small (for continuous integration).
SIZE ?= quick
OUT ?= runs/demo

.PHONY: install demo test test-slow programs test-gpu lint docs bench frontier fuzz crashes figures clean

install: $(STAMP)

# The Debian package holds the images; where it cannot be installed, the loader downloads them or says what to do.
$(STAMP): pyproject.toml constraints.txt requirements-lava.txt requirements-xylosim.txt requirements-sinabs.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' \
	    'asteval<0.10' 'networkx<=2.8.7' 'opencv-python-headless<5' ninja
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python -r requirements-lava.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-sinabs.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-xylosim.txt || \
	    echo "xylosim could not be built (it needs a C++ compiler and cmake): what it judges is skipped"
	@test -d /usr/share/datasets/fashion-mnist || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
	    (apt-get update -q && apt-get install -y -q dataset-fashion-mnist) >/dev/null 2>&1 || true
	@touch $@

demo: $(STAMP)
	$(BIN)/neuroprune demo --size $(SIZE) --out $(OUT) --overwrite

test: $(STAMP)
	$(BIN)/pytest -n 2 -m 'not slow and not gpu'

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

# Thousands of models made up at random: each is read exactly or refused (12 minutes on one core); the figures are kept.
programs: $(STAMP)
	PROGRAMS_RESULTS=examples/benchmarks/results $(BIN)/pytest -m slow tests/chain/test_generated_programs.py

test-gpu: $(STAMP)
	$(BIN)/pytest -m gpu

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site; a warning is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

# Time and memory, side by side with what does the same, in an hour; the last table says which goals are met.
bench: $(STAMP)
	$(BIN)/python -m examples.benchmarks

# Accuracy against sparsity, method by method: quick on CPU cores, full on a GPU. It goes on where it was interrupted.
frontier: SIZE = quick
frontier: $(STAMP)
	$(BIN)/python -m examples.benchmarks.frontier --size $(SIZE) --jobs $(JOBS)

# Changed files for every reader: errors of their own, soon and in little memory.
FILES ?= 100000
JOBS ?= 2
fuzz: $(STAMP)
	$(BIN)/python -m examples.benchmarks.strangers_files --count $(FILES) --jobs $(JOBS)

# Runs killed at random moments, 220 times (minutes): each must end as if nothing had happened.
crashes: $(STAMP)
	$(BIN)/python -m examples.benchmarks.crashes --jobs $(JOBS)

# Figures and pictures of README and the documentation; of the demo's run in $(OUT), where there is one.
figures: $(STAMP)
	$(BIN)/python -m examples.benchmarks.pictures $(if $(wildcard $(OUT)/summary.json),--run $(OUT))
	$(BIN)/python -m examples.benchmarks.readme

clean:
	rm -rf $(VENV) build *.egg-info
