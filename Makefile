# Two commands do all the set-up: `make up` runs a foundation, `make test` runs the tests.
.PHONY: up test test-long test-engines test-soak test-docs test-postgres test-browser test-clients test-sdks fuzz check bench bench-hub bench-gateway bench-gateway-outage lock docs clean
# Images of containers set it, and then every process compiles all that it imports: seconds, each time.
unexport PYTHONDONTWRITEBYTECODE
PY := .venv/bin/python
HF := tests/resources/hub/huggingface
LIBRARIES := $(HF)/libraries.txt
DEFAULT := not browser and not slow and not long and not heavy
SDKS := $(addprefix tests/resources/serving/gateway/test_,openai_sdk.py anthropic_sdk.py responses.py npm_sdks.py)
PINS := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

up:            ## install, start on http://127.0.0.1:$${GONGQI_PORT:-8420}, walk the chain once
	@scripts/bootstrap
	@exec .venv/bin/gongqi up

test:          ## the default suite on SQLite: under five minutes, no network
	@scripts/bootstrap dev
	@.venv/bin/pytest -m "$(DEFAULT)" -n 2 --dist loadscope

test-long:     ## what takes a second each; processes that are killed, disks that fill up, walks of the whole house
	@scripts/bootstrap dev
	@.venv/bin/pytest -m "(long or heavy) and not slow" -n 2 --dist loadscope --timeout 600

test-docs:     ## every command that the documents show, run as shown
	@scripts/bootstrap dev
	@scripts/need-node
	@.venv/bin/pytest tests/docs -m ""

test-soak:     ## more of the same: more kills, more schemathesis examples
	@scripts/bootstrap dev
	@.venv/bin/pytest -m "slow and not browser" -n 2

test-postgres: ## the default suite, what is heavy, what is killed and the walk of two tenants, on a throw-away PostgreSQL
	@scripts/bootstrap dev
	@scripts/with-postgres .venv/bin/pytest tests -m "not slow and ($(DEFAULT) or heavy or postgres)" -n 2 --dist loadscope --timeout 600

test-browser:  ## the console in a real Chromium, in both languages
	@scripts/bootstrap dev
	@scripts/need-chromium
	@.venv/bin/pytest -m browser

test-clients:  ## the hub with the clients people have: both majors, transformers, datasets, oras, skopeo, curl
	@scripts/bootstrap dev
	@test -d .venv-hf1 || .venv/bin/uv pip install -q --no-deps --target .venv-hf1 huggingface_hub==1.33.0
	@test -e .venv-clients/made || { $(PY) -m venv .venv-clients && .venv-clients/bin/pip install -q -r $(LIBRARIES) && touch .venv-clients/made; }
	@.venv/bin/pytest tests/resources/hub/huggingface tests/resources/hub/oci -m ""
	@PYTHONPATH=.venv-hf1 GONGQI_TEST_HF_MAJOR=1 .venv/bin/pytest $(HF)/test_client.py $(HF)/test_xet_client.py

test-sdks:     ## the gateway with the official openai and anthropic packages of PyPI and npm, unmodified
	@scripts/bootstrap dev
	@scripts/need-node
	@.venv/bin/pytest -m "" $(SDKS)

test-engines:  ## models that write, in llama.cpp, which is compiled first (some minutes; cmake and g++ are the machine's)
	@scripts/bootstrap dev
	@.venv/bin/uv pip install -q "llama-cpp-python==0.3.36" "gguf==0.19.0"
	@.venv/bin/pytest -m "" tests/resources/serving/engines tests/resources/serving/gateway/test_hosted.py tests/governance/ethics/test_written.py

check:         ## style, layers, types, generated pages
	@scripts/bootstrap dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports --no-cache
	@.venv/bin/pyright
	@$(PY) scripts/reference --check

fuzz:          ## look for bytes that break a reader: SECONDS for each target, all or those in TARGETS
	@scripts/bootstrap dev
	@.venv/bin/uv pip install -q --no-deps atheris==3.0.0
	@$(PY) -m tests.fuzz --seconds $(or $(SECONDS),60) $(TARGETS)

bench:         ## figures with the peer or the raw limit beside them
	@scripts/bootstrap dev
	@$(PY) -m bench

bench-hub:     ## the hub's figures alone, some ten minutes (nginx and curl are the machine's; 25 GB of disk for a while)
	@scripts/bootstrap dev
	@$(PY) -m bench hub search

bench-gateway: ## the model gateway beside its upstream, nginx and LiteLLM (wrk, nginx, PostgreSQL are the machine's)
	@scripts/bootstrap dev
	@test -d .venv-litellm || (.venv/bin/uv venv -q .venv-litellm && .venv/bin/uv pip install -q --python .venv-litellm/bin/python "litellm[proxy]==1.108.7")
	@scripts/with-postgres $(PY) -m bench gateway engines

bench-gateway-outage: ## a million calls, a minute without the database inside (CALLS, OUTAGE_SECONDS)
	@scripts/bootstrap dev
	@$(PY) -m bench.gateway_outage

docs:          ## rewrite the generated reference pages
	@$(PY) scripts/reference

lock:          ## pin every dependency with its hashes
	@scripts/bootstrap dev
	@.venv/bin/uv pip compile -q $(PINS) --group build -o requirements.lock pyproject.toml
	@.venv/bin/uv pip compile -q $(PINS) --group build --group dev -o requirements-dev.lock pyproject.toml

clean:
	@rm -rf .venv .venv-hf1 .venv-clients .venv-litellm .hypothesis dist build
