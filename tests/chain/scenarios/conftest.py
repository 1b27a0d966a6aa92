"""A market whose outcomes flow back. The market itself is in tests/sim, where it can also be used by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.sim.talk import Talk


def load_market() -> ModuleType:
    if "gongqi_market" not in sys.modules:
        spec = importlib.util.spec_from_file_location("gongqi_market", Path(__file__).parents[2] / "sim" / "market.py")
        assert spec is not None and spec.loader is not None
        sys.modules["gongqi_market"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["gongqi_market"])
    return sys.modules["gongqi_market"]


@pytest.fixture
def talk(market):
    return Talk(market)


@pytest.fixture
def sim() -> ModuleType:
    return load_market()


@pytest.fixture
def market(build, clock, sim):
    return sim.open_market(build, "chain.scenarios", clock=clock)
