# Commands for newcomers and for the CI script. They need Python 3.11 to 3.13 and the package index, but no GPU.
#   make demo PYTHON=python3.12     uses another interpreter than python3
PYTHON ?= python3
PYTHON311 ?= python3.11
VENV ?= .venv
PY := $(VENV)/bin/python
LEGACY := $(VENV)-legacy
TOOLS := $(VENV)-tools
EXTRAS := train jax export mic mqtt serve archive remote docs dev
LEGACY_EXTRAS := tfio edge-legacy mic mqtt test
SPACE := $() $()
COMMA := ,
# Number of processes that share the tests, file by file in order, doctests last; 0 runs them in this process.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 2 : n > 4 ? 4 : n)))
PYTEST := -m pytest -rs --timeout=300 --durations=10 -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Tests of what reads and writes names and text.
TEXT_TESTS := $(addprefix tests/,test_card.py test_command.py test_files.py test_label_tables.py test_labels.py audio/test_formats.py \
    cli/test_make_soundscapes.py cli/test_score_events.py data/test_audio_lists.py edge/sinks/test_text.py metrics/test_event_table.py \
    tagger/test_many_recordings.py tagger/test_reports.py training/test_run_folder.py)
# Tests of what no version of TensorFlow or NumPy changes: text, commands, servers, processes.
LEGACY_IGNORED := $(addprefix --ignore=tests/,archive cli review serving stories edge/sinks edge/sources \
    $(addprefix test_,card.py command.py configs.py documentation.py documented_commands.py encodings.py examples.py fetch.py \
        figures.py files.py label_tables.py language.py locks.py markdown.py package.py pictures.py raspberry_pi.py \
        requirements.py site.py) \
    $(addprefix edge/test_,clock.py config.py queue.py rows.py service.py) importers/test_torch_file.py \
    data/test_audio_lists.py data/test_killed_packs.py metrics/test_event_table.py tagger/test_reports.py \
    $(addprefix recipes/test_,comparison.py configuration.py gl_at.py papers.py tables.py) \
    $(addprefix training/test_,config.py distributed.py resume.py run_folder.py) \
    $(filter-out custom/test_run.py,$(patsubst tests/%,%,$(wildcard tests/custom/test_*.py))) custom/page)
# Without compiling, which would take a minute for modules that are mostly never imported.
PIP := -m pip install --quiet --no-compile --disable-pip-version-check
COMPILE = $(TOOLS)/bin/uv pip compile setup.cfg --python-version 3.11 --generate-hashes --no-annotate --quiet \
    --constraint requirements/constraints.txt --custom-compile-command "make lock" $(LOCK)
# Modules are compiled at their first import and cached, whatever the caller's environment says: Keras and TensorFlow take
# more than twice as long to import where every process compiles them again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo docs test test-ascii test-slow test-legacy soak faults lint format bench lock locked locked-legacy \
    audit clean distclean

help:
	@echo "make demo         install into $(VENV), train attention and a baseline on synthetic clips, print a table"
	@echo "make docs         build the site of the documentation into site/; a warning, such as a dead link, is an error"
	@echo "make test         tests and doctests on TensorFlow, without the slow ones"
	@echo "make test-ascii   what reads and writes names and text, in a locale that has only ASCII"
	@echo "make test-slow    every row of the papers, every system in every format; layers and embedding models on JAX"
	@echo "make test-legacy  most tests, and every system in every format, on TensorFlow 2.16 with tensorflow-io and"
	@echo "                  tflite-runtime (Python 3.11)"
	@echo "make soak         stream a day of audio as fast as possible: memory, losses, time stamps"
	@echo "make faults       kill, fill, truncate and damage: a table of what faults do (FAULTS=--quick: fewer tries)"
	@echo "make lint         ruff, mypy and the import contracts"
	@echo "make format       format the code with ruff"
	@echo "make bench        time a training step and, with FEATURES=features.tar.gz, packing and batches"
	@echo "make lock         renew requirements/, the locked versions for CI (LOCK=--upgrade: the newest ones)"
	@echo "make locked       install exactly these versions into $(VENV), whose files must have the hashes in the lock"
	@echo "make audit        look up known vulnerabilities of the locked versions on PyPI"
	@echo "make clean        remove the files of builds and tests; distclean also removes the environments"

demo: $(VENV)/.train
	$(PY) -m kerastag train feature_attention

docs: $(VENV)/.dev
	$(PY) -m docs.build_site

test: $(VENV)/.dev
	$(PY) $(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-ascii: $(VENV)/.dev
	LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $(PY) $(PYTEST) -m "not slow" $(TEXT_TESTS) $(PYTEST_ARGS)

test-slow: $(VENV)/.dev
	$(PY) $(PYTEST) -m slow --dist worksteal tests $(PYTEST_ARGS)
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PY) $(PYTEST) -m "not slow" tests/models/test_embedding_models.py tests/layers kerastag/layers $(PYTEST_ARGS)

test-legacy: $(LEGACY)/.tfio $(VENV)/.dev
	$(PY) tests/export/legacy_models.py $(LEGACY)/models
	KERASTAG_LEGACY_MODELS=$(LEGACY)/models $(LEGACY)/bin/python $(PYTEST) -m "not slow" $(LEGACY_IGNORED) $(PYTEST_ARGS)
	$(LEGACY)/bin/python $(PYTEST) -m slow --dist worksteal tests/export $(PYTEST_ARGS)

soak: $(VENV)/.dev
	KERASTAG_SOAK_HOURS=24 $(PY) -m pytest -s tests/edge/test_soak.py

faults: $(VENV)/.dev
	$(PY) benchmarks/faults $(FAULTS)

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
	$(if $(FEATURES),$(PY) benchmarks/data_pipeline.py --source "$(FEATURES)",@echo "FEATURES=features.tar.gz times packing and batches, too")

# Versions that still fit stay as they are.
lock: $(TOOLS)/.installed
	$(COMPILE) --universal $(addprefix --extra ,$(EXTRAS)) --output-file requirements/ci.txt
	$(COMPILE) --python-platform x86_64-manylinux_2_28 $(addprefix --extra ,$(LEGACY_EXTRAS)) --output-file requirements/legacy.txt

locked: | $(PY)
	$(PY) $(PIP) --require-hashes --requirement requirements/ci.txt
	$(PY) $(PIP) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.dev $(VENV)/.train

locked-legacy: | $(LEGACY)/bin/python
	$(LEGACY)/bin/python $(PIP) --require-hashes --requirement requirements/legacy.txt
	$(LEGACY)/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $(LEGACY)/.tfio

audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off --requirement requirements/ci.txt

clean:
	rm -rf build dist site .cache *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(LEGACY) $(TOOLS)

# Stamps: an environment is installed once, and again after its requirements have changed.
$(PY):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	    "kerastag needs Python 3.11 to 3.13, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: setup.cfg pyproject.toml | $(PY)
	$(PY) $(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.dev: setup.cfg pyproject.toml | $(PY)
	$(PY) $(PIP) --editable '.[$(subst $(SPACE),$(COMMA),$(EXTRAS))]'
	@touch $@ $(VENV)/.train

$(LEGACY)/bin/python:
	$(PYTHON311) -m venv $(LEGACY)

$(LEGACY)/.tfio: setup.cfg pyproject.toml | $(LEGACY)/bin/python
	$(LEGACY)/bin/python $(PIP) --editable '.[$(subst $(SPACE),$(COMMA),$(LEGACY_EXTRAS))]'
	@touch $@

$(TOOLS)/.installed: | $(PY)
	$(PY) -m venv $(TOOLS)
	$(TOOLS)/bin/python $(PIP) uv pip-audit
	@touch $@
