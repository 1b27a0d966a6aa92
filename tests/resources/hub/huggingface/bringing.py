"""What brings large files to a foundation in these tests: the stock client, and a client of one page."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from gongqi.resources.hub import quotas
from gongqi.resources.hub.known import held_xorbs
from gongqi.resources.hub.models import BlobOwner, ReceivedXorb
from gongqi.resources.hub.xet.hashes import text_of
from gongqi.resources.hub.xet.xorbs import LZ4
from tests.sim import xet as sim

CLIENT_SECONDS = 240
CLIENT = """
import sys
from huggingface_hub import HfApi
api = HfApi()
act, repo, what = sys.argv[1:]
if act == "folder":
    api.upload_folder(repo_id=repo, folder_path=what)
else:
    api.upload_file(path_or_fileobj=what, path_in_repo=what.rsplit("/", 1)[-1], repo_id=repo)
"""


def stock(hub: Any, act: str, repo: str, what: Path, *, url: str | None = None) -> subprocess.CompletedProcess[str]:
    """The stock client in a process of its own, since one process either speaks Xet or does not."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
        "HF_ENDPOINT": url or hub.foundation.url,
        "HF_TOKEN": hub.donor.secret,
        "HF_HOME": str(hub.folder / "client"),  # one memory for all tests of this module
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-c", CLIENT, act, repo, str(what)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=CLIENT_SECONDS)


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def fetched(hub: Any, repo: str, name: str) -> bytes:
    answer = httpx.get(f"{hub.foundation.url}/{repo}/resolve/main/{name}", trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.content


def rows(hub: Any, *conditions: Any, of: Any = ReceivedXorb) -> int:
    with hub.kernel.db.reading() as session:
        return session.scalar(select(func.count()).select_from(of).where(*conditions)) or 0


def held_files(hub: Any) -> list[str]:
    return sorted(os.listdir(held_xorbs(hub.kernel).folder))


@dataclass
class Bringer:
    """A client of one page, for one repository; `address` and `token` as the write token gave them."""

    hub: Any
    repo: str
    space: str
    address: str
    token: str

    def post(self, path: str, content: Any, *, token: str | None = None, address: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.token}"}
        return httpx.post(
            (address or self.address) + path, content=content, headers=headers, trust_env=False, timeout=60
        )

    def xorb(self, chunks: Sequence[bytes], *, name: bytes | None = None, **more: Any) -> httpx.Response:
        content = b"".join(sim.pack(raw, LZ4) for raw in chunks)
        return self.post(f"/v1/xorbs/default/{text_of(name or sim.name_of(chunks))}", content, **more)

    def shard(self, *files: Sequence[Any], **more: Any) -> httpx.Response:
        return self.post("/v1/shards", sim.shard_of(map(sim.file_records, files), []), **more)

    def have(self, content: bytes) -> bool:
        """Whether the organisation holds these bytes, whole."""
        digest = hashlib.sha256(content).hexdigest()
        owned = rows(self.hub, BlobOwner.sha256 == digest, BlobOwner.org == self.hub.north, of=BlobOwner)
        return bool(owned) and self.hub.kernel.blobs.read(digest, limit_bytes=len(content)) == content


def bringer(hub: Any, repo: str) -> Bringer:
    answer = ask_token(hub, repo, hub.donor)
    assert answer.status_code == 200, answer.text
    given = answer.json()
    assert answer.headers["x-xet-cas-url"] == given["casUrl"]
    assert answer.headers["x-xet-access-token"] == given["accessToken"]
    assert int(answer.headers["x-xet-token-expiration"]) == given["exp"]
    return Bringer(hub, repo, given["casUrl"].split("/")[-2], given["casUrl"], given["accessToken"])


def ask_token(hub: Any, repo: str, person: Any, kind: str = "write", rev: str = "main") -> httpx.Response:
    headers = {"authorization": f"Bearer {person.secret}"} if person else {}
    return httpx.get(f"{hub.foundation.url}/api/models/{repo}/xet-{kind}-token/{rev}", headers=headers, trust_env=False)


def refused(answer: httpx.Response) -> str:
    assert 400 <= answer.status_code < 500 and answer.status_code not in (408, 429), answer.text
    told = answer.json()
    assert told["error"]
    return told["code"]


class limited:
    """Within, the north may keep so many bytes more."""

    def __init__(self, hub: Any, room_bytes: int) -> None:
        self.hub, self.room = hub, room_bytes

    def __enter__(self) -> None:
        used = self.hub.kernel.look(lambda ctx: quotas.quota_of(ctx, self.hub.north)).used_bytes
        self.set(used + self.room)

    def __exit__(self, *_: object) -> None:
        self.set(None)

    def set(self, limit: int | None) -> None:
        self.hub.foundation.operator.verb("hub:quota:set", org=self.hub.north, limit_bytes=limit)


def xorbs_of(hub: Any, space: str) -> list[str]:
    with hub.kernel.db.reading() as session:
        return list(session.scalars(select(ReceivedXorb.name).where(ReceivedXorb.space == space)))
