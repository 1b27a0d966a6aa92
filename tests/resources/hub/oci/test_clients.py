"""Clients as people have them, unchanged: `oras` from PyPI, and `skopeo` from Debian."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.resources.hub.oci.conftest import CARD, Registry

pytestmark = pytest.mark.heavy

FILES = {
    "README.md": CARD,
    "config.json": b'{"hidden_size": 8}',
    "a.safetensors": (2).to_bytes(8, "little") + b"{}",
}
SECONDS = 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a client works, with some files to push."""
    place = tmp_path / "work"
    place.mkdir()
    for path, content in FILES.items():
        (place / path).write_bytes(content)
    monkeypatch.chdir(place)
    return place


def client(registry: Registry, tmp_path: Path, secret: str | None) -> Any:
    from oras.client import OrasClient  # what it imports takes seconds

    made = OrasClient(hostname=host(registry), insecure=True)
    if secret:
        config = str(tmp_path / "docker.json")
        made.login(username="donor", password=secret, hostname=host(registry), tls_verify=False, config_path=config)
    return made


def host(registry: Registry) -> str:
    return registry.url.removeprefix("http://")


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_oras_pushes_a_model_and_pulls_it_again(registry: Registry, folder: Path, tmp_path: Path) -> None:
    name = registry.name()
    target = f"{host(registry)}/{name}:v1"
    mine = client(registry, tmp_path, registry.donor.secret)
    mine.push(target=target, files=sorted(FILES), disable_path_validation=True)
    assert "v1" in mine.get_tags(f"{host(registry)}/{name}")
    mine.pull(target=target, outdir=str(tmp_path / "back"))
    assert read(tmp_path / "back") == FILES
    asset = registry.asset(registry.donor, name)["id"]
    [revision] = registry.donor.read("hub:revision:list", asset=asset)["items"]
    files = registry.read("hub/revision", revision["id"])["files"]
    assert {file["path"]: file["sha256"] for file in files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()
    }


def test_oras_pulls_what_is_public_without_a_token_and_nothing_else(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    name, nested = registry.name(), FILES | {"weights/part-1.bin": b"in a folder\n"}
    registry.push(name, nested)
    target = f"{host(registry)}/{name}:latest"
    with pytest.raises(ValueError, match=r"401|404|NAME_UNKNOWN|Unauthorized|Not Found|authenticat"):
        client(registry, tmp_path, None).pull(target=target, outdir=str(tmp_path / "closed"))
    asset = registry.asset(registry.donor, name)["id"]
    registry.donor.verb("hub:asset:open", asset=asset, visibility="public")
    client(registry, tmp_path, None).pull(target=target, outdir=str(tmp_path / "open"))
    assert read(tmp_path / "open") == nested and not (tmp_path / "closed").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is a package of the system")
def test_skopeo_copies_out_inspects_lists_and_copies_in(registry: Registry, tmp_path: Path) -> None:
    name, other = registry.name(), registry.name()
    content = registry.push(name, FILES, "v1")
    login = f"donor:{registry.donor.secret}"

    def skopeo(*arguments: str) -> str:
        done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    here, there = (f"docker://{host(registry)}/{each}:v1" for each in (name, other))
    raw = skopeo("inspect", "--raw", "--tls-verify=false", "--creds", login, here)
    assert raw.encode() == content
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", "--creds", login, here.rpartition(":")[0]))
    assert listed["Tags"] == ["latest", "main", "v1"]
    layout = f"dir:{tmp_path / 'copy'}"
    skopeo("copy", "--src-tls-verify=false", "--src-creds", login, here, layout)
    skopeo("copy", "--dest-tls-verify=false", "--dest-creds", login, "--preserve-digests", layout, there)
    assert registry.get(f"/v2/{other}/manifests/v1", registry.donor).content == content
