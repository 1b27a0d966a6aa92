"""Behind nginx, set up as the operator's manual says, clients find what they find without it; the bytes come from nginx."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi

from tests.resources.hub.huggingface.conftest import Hub

MANUAL = Path(__file__).parents[4] / "docs" / "en" / "operator.md"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
WAIT_SECONDS = 20
CONTENT = os.urandom(300_000)
REST = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; {user}
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fast; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; {locations} }}
}}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is a package of the system")


@pytest.fixture(scope="module")
def front(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of nginx before the hub."""
    shown = re.search(r"^```nginx\n(.*?)^```$", MANUAL.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert shown
    user, locations = shown[1].split("\n", 1)
    assert user == "user gongqi;"
    locations = locations.replace("http://127.0.0.1:8420", hub.foundation.url)
    locations = locations.replace("/srv/gongqi/blobs/", f"{hub.kernel.settings.home}/blobs/")
    folder = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    me = "user root;" if os.geteuid() == 0 else ""
    told = REST.format(folder=folder, port=port, user=me, locations=locations)
    (folder / "nginx.conf").write_text(told, "utf-8")
    hub.kernel.settings = replace(hub.kernel.settings, accel_prefix="/blobs")
    process = subprocess.Popen([str(NGINX), "-e", f"{folder}/start.log", "-c", f"{folder}/nginx.conf"])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()
        hub.kernel.settings = replace(hub.kernel.settings, accel_prefix="")


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            httpx.get(f"{url}/health", trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            assert process.poll() is None and time.monotonic() < give_up_at
            time.sleep(0.02)


def test_a_client_brings_and_gets_files_through_nginx(hub: Hub, repo: str, front: str, tmp_path: Path) -> None:
    api = HfApi(endpoint=front, token=hub.donor.secret)
    files = {"weights.bin": CONTENT, "notes.txt": b"a few words"}
    for path, content in files.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo)
    anyone = HfApi(endpoint=front, token=False)
    got = Path(anyone.snapshot_download(repo, cache_dir=tmp_path))
    assert {path: (got / path).read_bytes() for path in files} == files
    assert got.name == anyone.model_info(repo).sha


def test_the_bytes_come_from_nginx_with_the_headers_that_we_send(hub: Hub, repo: str, front: str) -> None:
    hub.api(hub.donor).upload_file(path_or_fileobj=CONTENT, path_in_repo="weights.bin", repo_id=repo)
    path, etag = f"/{repo}/resolve/main/weights.bin", f'"{sha256(CONTENT).hexdigest()}"'
    named = ("etag", "x-repo-commit", "x-linked-etag", "x-linked-size", "content-length", "content-disposition",
             "cache-control", "content-security-policy", "x-content-type-options", "accept-ranges")  # fmt: skip
    with httpx.Client(base_url=front, trust_env=False) as http:
        whole, head = http.get(path), http.head(path)
        assert (whole.status_code, whole.content, whole.headers["etag"]) == (200, CONTENT, etag)
        assert [whole.headers.get_list(name) for name in named] == [head.headers.get_list(name) for name in named]
        assert "x-accel-redirect" not in whole.headers
        assert "x-request-id" not in whole.headers, "this one did not pass through the server"
        part = http.get(path, headers={"range": "bytes=1000-1999"})
        assert (part.status_code, part.content) == (206, CONTENT[1000:2000])
        assert part.headers["x-repo-commit"] == whole.headers["x-repo-commit"]
        assert http.get(path, headers={"if-none-match": etag}).status_code == 304


def test_nothing_comes_from_nginx_that_was_not_asked_of_the_server(hub: Hub, repo: str, front: str) -> None:
    hub.api(hub.donor).upload_file(path_or_fileobj=CONTENT, path_in_repo="weights.bin", repo_id=repo)
    digest = sha256(CONTENT).hexdigest()
    assert (hub.kernel.settings.home / "blobs" / digest[:2] / digest[2:4] / digest).exists()
    with httpx.Client(base_url=front, trust_env=False) as http:
        assert http.get(f"/blobs/{digest[:2]}/{digest[2:4]}/{digest}").status_code == 404
        hub.api(hub.donor).update_repo_settings(repo, private=True)
        assert http.get(f"/{repo}/resolve/main/weights.bin").status_code == 404
