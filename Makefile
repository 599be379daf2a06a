PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: venv demo test check format docs bench clean

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[diffusers,datasets,fast,http,onnx,review,s3,search,dev]'
	touch $(READY)

demo: $(READY)
	$(VENV)/bin/byrote demo

test: $(READY)
	$(RUN) -m pytest --numprocesses 2 --dist loadfile

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(READY)
	$(RUN) docs/make_cli.py
	$(RUN) docs/make_scale.py

bench: $(READY)
	$(RUN) benchmarks/run.py

clean:
	rm -rf demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
