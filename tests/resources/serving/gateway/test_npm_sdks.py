"""The official `openai` and `anthropic` packages of npm against the gateway: `tests/resources/serving/npm/matrix.mjs`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.resources.serving.gateway.conftest import Gateway

NPM = Path(__file__).parents[1] / "npm"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (NPM / "node_modules").exists() and "CI" not in os.environ, reason="scripts/need-node installs the packages"
    ),
]


def test_the_packages_of_npm_run_unmodified(gateway: Gateway) -> None:
    gateway.route("talk", "words=5")
    gateway.route("vectors", "vectors", kind="embeddings")
    gateway.route("gone", "status=500")
    gateway.route("stumbles", "words=9+cut=3")
    gateway.spoken_route("anthropic", "claude", "words=5")
    gateway.spoken_route("openai-responses", "gpt", "words=5")
    environment = os.environ | {"GONGQI_URL": gateway.url, "KEY": gateway.key}
    command = ["node", "--test", "--test-reporter=tap", "matrix.mjs"]
    done = subprocess.run(command, cwd=NPM, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "# pass 18" in done.stdout, done.stdout[-600:]
