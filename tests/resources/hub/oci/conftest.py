"""A foundation that serves, two organisations in it, and a client that says what the protocol says, no more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.house.conftest import Foundation

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CARD = b"---\ntitle: {zh: \xe8\x82\xbf\xe5\x9d\x97, en: Tumours}\nlicense: Apache-2.0\n---\n# What it is\n"


def digest_of(content: bytes) -> str:
    return "sha256:" + sha256(content).hexdigest()


@dataclass
class Registry:
    """`donor` owns the north, `other` the south; each is asked for by their secret."""

    foundation: Foundation
    donor: Any
    other: Any
    north: str
    south: str
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def url(self) -> str:
        return self.foundation.url

    def http(self, person: Any = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {person.secret}"} if person else {}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)

    def name(self) -> str:
        return f"north/thing-{next(self.numbers)}"

    def asset(self, person: Any, name: str) -> dict[str, Any]:
        slug = name.split("/")[1]
        return next(each for each in person.read("hub:asset:list", limit=200)["items"] if each["slug"] == slug)

    def read(self, path: str, key: str) -> dict[str, Any]:
        """One thing, as the API tells the donor of it."""
        return self.get(f"/api/v1/{path}/{key}", self.donor).json()

    def upload(self, name: str, content: bytes, person: Any = None) -> dict[str, Any]:
        """Bring a blob in one request; returns its descriptor."""
        with self.http(person or self.donor) as http:
            answer = http.post(f"/v2/{name}/blobs/uploads/", params={"digest": digest_of(content)}, content=content)
        assert answer.status_code == 201, answer.text
        assert answer.headers["docker-content-digest"] == digest_of(content)
        return {"digest": digest_of(content), "size": len(content)}

    def manifest(self, name: str, files: dict[str, bytes], **more: Any) -> bytes:
        """The manifest of these files, which are brought."""
        layers = [
            {
                "mediaType": "application/vnd.cncf.model.weight.v1.raw",
                **self.upload(name, content),
                "annotations": {"org.cncf.model.filepath": path, "org.opencontainers.image.title": path},
            }
            for path, content in files.items()
        ]
        config = {"mediaType": "application/vnd.cncf.model.config.v1+json", **self.upload(name, b'{"config": {}}')}
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return json.dumps(document | more).encode()

    def put(self, name: str, reference: str, content: bytes, person: Any = None) -> httpx.Response:
        with self.http(person or self.donor) as http:
            headers = {"content-type": MANIFEST}
            return http.put(f"/v2/{name}/manifests/{reference}", content=content, headers=headers)

    def push(self, name: str, files: dict[str, bytes], tag: str = "latest") -> bytes:
        content = self.manifest(name, files)
        answer = self.put(name, tag, content)
        assert answer.status_code == 201, answer.text
        return content

    def get(self, path: str, person: Any = None, **headers: str) -> httpx.Response:
        with self.http(person) as http:
            return http.get(path, headers=headers)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Registry]:
    folder: Path = tmp_path_factory.mktemp("oci")
    with new_database(folder) as url:
        foundation = Foundation(folder / "home", url)
        north, south = foundation.organisation("north"), foundation.organisation("south")
        donor = foundation.person("donor", north, "owner")
        yield Registry(foundation, donor, foundation.person("other", south, "owner"), north, south)
        foundation.stop()


def code_of(answer: httpx.Response) -> tuple[int, str, str]:
    """(status, the protocol's code, ours)."""
    document = answer.json()
    return answer.status_code, document["errors"][0]["code"], document["code"]
