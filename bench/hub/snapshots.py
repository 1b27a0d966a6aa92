"""A thousand files of 10 KB by `snapshot_download`, from us and from a static nginx that answers the same requests.

What nginx answers to questions about the repository was answered by us before the run and lies in its folder; the files
it serves from the store. The client, its cache empty, is most of the time in both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from bench import Figure
from bench.hub.serving import Server, nginx
from bench.hub.uploads import client_environment

FILES = 1_000
FILE_BYTES = 10_000
ROUNDS = 3
REPOSITORY = "org-0/model-0"
SNAPSHOT = """
import sys, time
from huggingface_hub import snapshot_download
began = time.perf_counter()
snapshot_download(sys.argv[1])
print(time.perf_counter() - began)
"""
STATIC = """
location = /api/models/{repository}/revision/main {{ default_type application/json; alias {folder}/described; }}
location = /api/models/{repository}/tree/{oid} {{ default_type application/json; alias {folder}/tree; }}
location /{repository}/resolve/{oid}/ {{ alias {folder}/files/; add_header X-Repo-Commit {oid}; }}
"""


def files() -> Mapping[str, bytes]:
    return {f"part-{number:04}.bin": os.urandom(FILE_BYTES) for number in range(FILES)}


def run(hub: Server) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="gongqi-bench-") as name:
        folder = Path(name)
        oid = _copy(hub, folder)
        with nginx(STATIC.format(repository=REPOSITORY, oid=oid, folder=folder)) as port:
            addresses = {"ours": hub.url, "static": f"http://127.0.0.1:{port}"}
            taken: dict[str, list[float]] = {who: [] for who in addresses}
            for number in range(ROUNDS):
                for who, url in addresses.items():
                    taken[who].append(_downloaded(url, hub.token, folder / f"{who}-{number}"))
    ours, static = (statistics.median(each) for each in taken.values())
    what = f"hub: {FILES:,} files of 10 KB by snapshot_download"
    yield Figure(what, ours / static, "times", "≤ 2", "static nginx, seconds", static, ours / static)
    yield Figure(f"{what}, seconds", ours, "s", "", "static nginx", static, ours / static)


def _downloaded(url: str, token: str, cache: Path) -> float:
    command = [sys.executable, "-c", SNAPSHOT, REPOSITORY]
    told = subprocess.run(
        command, env=client_environment(url, token, cache), stdout=subprocess.PIPE, check=True, text=True
    )
    found = len(list(cache.glob("hub/*/snapshots/*/part-*.bin")))
    if found != FILES:
        raise RuntimeError(f"bench: {found} files came from {url}")
    return float(told.stdout.splitlines()[-1])


def _copy(hub: Server, folder: Path) -> str:
    """Lay out what nginx is to answer; returns the commit."""
    with httpx.Client(base_url=hub.url, trust_env=False) as http:
        about = f"/api/models/{REPOSITORY}"
        described = http.get(f"{about}/revision/main").raise_for_status()
        oid = described.json()["sha"]
        tree = http.get(f"{about}/tree/{oid}", params={"recursive": "true", "expand": "false"}).raise_for_status()
        (folder / "described").write_bytes(described.content)
        (folder / "tree").write_bytes(tree.content)
        (folder / "files").mkdir()
        for each in tree.json():
            content = http.get(f"/{REPOSITORY}/resolve/{oid}/{each['path']}").raise_for_status().content
            (folder / "files" / each["path"]).write_bytes(content)
    return oid
