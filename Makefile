# Each target makes .venv and installs what is pinned, if that has changed, then does its job.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: train test bench lint
train: $(VENV)/installed
	$(RUN) train_classifier.py

test: $(VENV)/installed-dev
	$(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder

bench: $(VENV)/installed-dev
	$(RUN) -m benchmarks.preprocess
	$(RUN) -m benchmarks.check_cache
	$(RUN) -m benchmarks.startup
	$(RUN) -m benchmarks.train
	$(RUN) -m benchmarks.predict
	$(RUN) -m benchmarks.evaluate

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# After an error the environment is removed: the next make would take a half-made one for complete.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: requirements.txt $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements.txt requirements-dev.txt $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $(VENV)/installed $@
