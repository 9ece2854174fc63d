# What a newcomer and the CI script both run. Python 3.11 to 3.13; no network but the package index, no GPU.
#   make demo PYTHON=python3.12     another interpreter than python3
PYTHON ?= python3
PYTHON311 ?= python3.11
VENV ?= .venv
PY := $(VENV)/bin/python
LEGACY := $(VENV)-legacy
# Processes that share the tests, a file each, in order: the doctests come last and fill what is left; 0 is this one alone.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 2 : n > 4 ? 4 : n)))
PYTEST := -m pytest -rs --timeout=300 --durations=10 -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Not compiled: that is a minute of the processor for modules of which few are ever loaded.
PIP := -m pip install --quiet --no-compile --disable-pip-version-check
# They are compiled when they are first imported, and kept, whatever the caller's environment says: an import of Keras
# and TensorFlow takes more than twice as long where every process compiles them anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-slow test-legacy soak lint format bench clean distclean

help:
	@echo "make demo         install into $(VENV), train attention beside averaging on synthetic clips, print the table"
	@echo "make test         tests and doctests on TensorFlow, less what is slow"
	@echo "make test-slow    every TOML, every system through every format; layers and embedding models on JAX"
	@echo "make test-legacy  the tests, and every system through every format, beside TensorFlow 2.16, tensorflow-io and"
	@echo "                  tflite-runtime (Python 3.11)"
	@echo "make soak         a day of audio through the streaming tagger as fast as it goes: memory, losses, time stamps"
	@echo "make lint         ruff, mypy and the import contracts"
	@echo "make format       rewrite the code as ruff would have it"
	@echo "make bench        a training step timed; with FEATURES=features.tar.gz packing and batches too"
	@echo "make clean        remove what building and testing left; distclean removes the environments too"

demo: $(VENV)/.train
	$(PY) -m kerastag.recipes.feature_attention

test: $(VENV)/.dev
	$(PY) $(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.dev
	$(PY) $(PYTEST) -m slow --dist worksteal tests $(PYTEST_ARGS)
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PY) $(PYTEST) tests/models/test_embedding_models.py tests/layers kerastag/layers $(PYTEST_ARGS)

test-legacy: $(LEGACY)/.tfio $(VENV)/.dev
	$(PY) tests/export/legacy_models.py $(LEGACY)/models
	KERASTAG_LEGACY_MODELS=$(LEGACY)/models $(LEGACY)/bin/python $(PYTEST) -m "not slow" $(PYTEST_ARGS)
	$(LEGACY)/bin/python $(PYTEST) -m slow --dist worksteal tests/export $(PYTEST_ARGS)

soak: $(VENV)/.dev
	KERASTAG_SOAK_HOURS=24 $(PY) -m pytest -s tests/edge/test_soak.py

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(VENV)/.dev
	$(PY) benchmarks/training_step.py
	$(if $(FEATURES),$(PY) benchmarks/data_pipeline.py --source "$(FEATURES)",@echo "with FEATURES=features.tar.gz: packing and batches too")

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(LEGACY)

# The stamps: an environment is installed once, and again after its requirements have changed.
$(PY):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	    "kerastag needs Python 3.11 to 3.13, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: setup.cfg pyproject.toml | $(PY)
	$(PY) $(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.dev: setup.cfg pyproject.toml | $(PY)
	$(PY) $(PIP) --editable '.[train,jax,export,mic,mqtt,dev]'
	@touch $@ $(VENV)/.train

$(LEGACY)/.tfio: setup.cfg pyproject.toml
	$(PYTHON311) -m venv $(LEGACY)
	$(LEGACY)/bin/python $(PIP) --editable '.[tfio,edge-legacy,mic,mqtt,test]'
	@touch $@
