"""A Xet client without a network; it is in tests/sim, where it can also be used by hand."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from gongqi.kernel.errors import GongqiError
from gongqi.kernel.words import Words
from gongqi.resources.hub import safety


@pytest.fixture(scope="session")
def sim() -> ModuleType:
    if "gongqi_xet" not in sys.modules:
        spec = importlib.util.spec_from_file_location("gongqi_xet", Path(__file__).parents[3] / "sim" / "xet.py")
        assert spec and spec.loader
        sys.modules["gongqi_xet"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["gongqi_xet"])
    return sys.modules["gongqi_xet"]


@pytest.fixture(scope="session")
def said() -> Callable[[pytest.ExceptionInfo[GongqiError]], str]:
    """The code of an error and what it complains of, after checking that its words need nothing that it does not give."""
    words = Words()
    words.load(Path(safety.__file__).with_name("words.toml"))

    def code(caught: pytest.ExceptionInfo[GongqiError]) -> str:
        error = caught.value
        for language in ("zh", "en"):
            _, message, remedy = words.error(error, language)
            assert "{" not in message + remedy, message + remedy
        about = error.params.get("flaw") or error.params.get("claim")
        return f"{error.code}: {about}" if about else error.code

    return code
