# Two commands do all the set-up: `make up` runs a foundation, `make test` runs the tests.
.PHONY: up test test-docs test-long test-postgres test-browser test-hub-clients fuzz check bench lock docs clean
PY := .venv/bin/python
PINS := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

up:            ## install, start on http://127.0.0.1:$${GONGQI_PORT:-8420}, walk the chain once
	@scripts/bootstrap
	@exec .venv/bin/gongqi up

test:          ## the default suite on SQLite: under five minutes, no network
	@scripts/bootstrap dev
	@.venv/bin/pytest -m "not browser and not slow" -n 2 --dist loadscope

test-docs:     ## every command that the documents show, run as shown
	@scripts/bootstrap dev
	@.venv/bin/pytest tests/docs -m ""

test-long:     ## longer walks: more kills, more schemathesis examples
	@scripts/bootstrap dev
	@.venv/bin/pytest -m "slow and not browser" -n 2

test-postgres: ## the same suite on a throw-away PostgreSQL
	@scripts/bootstrap dev
	@scripts/with-postgres .venv/bin/pytest -m "not browser and not slow" -n 2 --dist loadscope

test-browser:  ## the console in a real Chromium, in both languages
	@scripts/bootstrap dev
	@scripts/need-chromium
	@.venv/bin/pytest -m browser

test-hub-clients: ## the hub's door with the older major of its clients as well
	@scripts/bootstrap dev
	@test -d .venv-hf1 || .venv/bin/uv pip install -q --no-deps --target .venv-hf1 huggingface_hub==1.33.0
	@.venv/bin/pytest tests/resources/hub/huggingface
	@PYTHONPATH=.venv-hf1 GONGQI_TEST_HF_MAJOR=1 .venv/bin/pytest tests/resources/hub/huggingface/test_client.py

fuzz:          ## look for bytes that break a reader: SECONDS for each target, all or those in TARGETS
	@scripts/bootstrap dev
	@.venv/bin/uv pip install -q --no-deps atheris==3.0.0
	@$(PY) -m tests.fuzz --seconds $(or $(SECONDS),60) $(TARGETS)

check:         ## style, layers, types, generated pages
	@scripts/bootstrap dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports --no-cache
	@.venv/bin/pyright
	@$(PY) scripts/reference --check

bench:         ## figures with the peer or the raw limit beside them
	@scripts/bootstrap dev
	@$(PY) -m bench

docs:          ## rewrite the generated reference pages
	@$(PY) scripts/reference

lock:          ## pin every dependency with its hashes
	@scripts/bootstrap dev
	@.venv/bin/uv pip compile -q $(PINS) --group build -o requirements.lock pyproject.toml
	@.venv/bin/uv pip compile -q $(PINS) --group build --group dev -o requirements-dev.lock pyproject.toml

clean:
	@rm -rf .venv .venv-hf1 .hypothesis dist build
