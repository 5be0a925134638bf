# `make quickstart` and `make test` set everything up when it is missing.
PYTHON ?= python3
VENV := .venv
# Optional backends and peers join with e.g. `make test EXTRAS=train,tflite,test,torch,jax`.
EXTRAS ?= train,tflite,test
# Flags of recipes/quickstart.py, e.g. `make quickstart QUICKSTART="--model=MobileViTXXS"`.
QUICKSTART ?=
# Flags of pytest, e.g. `make test PYTEST=--durations=60`.
PYTEST ?=
STAMP := $(VENV)/.installed-$(EXTRAS)

.PHONY: quickstart test lint install mediapipe notebooks clean

quickstart: $(STAMP)
	$(VENV)/bin/python recipes/quickstart.py $(QUICKSTART)

test: $(STAMP) lint
	$(VENV)/bin/python -m pytest -n 2 $(PYTEST)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

install: $(STAMP)

$(STAMP): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

# MediaPipe Tasks, which the tests ask as a judge, wants another NumPy: an environment of its own.
mediapipe: .venv-mediapipe/.installed

.venv-mediapipe/.installed:
	$(PYTHON) -m venv .venv-mediapipe
	.venv-mediapipe/bin/python -m pip install --quiet "mediapipe>=1.2,<2"
	touch $@

# Executes the notebooks, and keeps their outputs for readers.
notebooks: $(STAMP)
	$(VENV)/bin/python notebooks/renew.py

clean:
	rm -rf $(VENV) .venv-mediapipe runs .pytest_cache .ruff_cache
