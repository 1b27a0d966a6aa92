"""A foundation without packs, as every foundation begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.house.conftest import Foundation


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Foundation]:
    folder = tmp_path_factory.mktemp("packs")
    with new_database(folder) as url:
        made = Foundation(folder / "home", url)
        yield made
        made.stop()
