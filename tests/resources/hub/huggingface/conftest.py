"""A foundation that serves, two organisations in it, and the stock client pointed at it."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]
# Before the client is imported, which reads them once. Some calls of 1.x look for the endpoint nowhere else.
os.environ |= {
    "HF_ENDPOINT": f"http://127.0.0.1:{PORT}",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}

import pytest
from huggingface_hub import HfApi

from tests.house.conftest import Foundation


@dataclass
class Hub:
    """`donor` and `other` own an organisation each, `reader` belongs to neither; the clients are theirs."""

    foundation: Foundation
    donor: Any
    other: Any
    reader: Any
    north: str
    folder: Path

    @property
    def kernel(self) -> Any:
        return self.foundation.kernel

    def api(self, person: Any = None) -> HfApi:
        token = person.secret if person else False
        return HfApi(endpoint=self.foundation.url, token=token)

    def asset(self, person: Any, name: str) -> dict[str, Any]:
        slug = name.split("/")[1]
        items = person.read("hub:asset:list", limit=200)["items"]
        return next(each for each in items if each["slug"] == slug)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hf")
    with new_database(folder) as url:
        foundation = Foundation(folder / "home", url, port=PORT)
        north, south = foundation.organisation("north"), foundation.organisation("south")
        yield Hub(
            foundation,
            donor=foundation.person("donor", north, "owner"),
            other=foundation.person("other", south, "owner"),
            reader=foundation.person("reader", south, "member"),
            north=north,
            folder=folder,
        )
        foundation.stop()


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return hub.api(hub.donor)


@pytest.fixture
def repo(api: HfApi, request: pytest.FixtureRequest) -> str:
    """An empty public model named after the test."""
    words = request.node.originalname.removeprefix("test_").replace("_", "-")
    name = f"north/{next(_numbers)}-{words[:50].strip('-')}"
    api.create_repo(name, private=False)
    return name


_numbers = itertools.count(1)
