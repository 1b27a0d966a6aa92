"""Command lines as people have them: `hf` and `curl`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

SECONDS = 120
CONTENT = bytes(range(256)) * 2_000


@pytest.mark.slow  # a second or two for each command
def test_the_hf_command_signs_in_makes_uploads_downloads_and_lists_its_cache(hub: Any, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    given = {"HF_ENDPOINT": hub.foundation.url, "HF_TOKEN": hub.donor.secret, "HF_HOME": str(tmp_path / "home")}
    (tmp_path / "w.bin2").write_bytes(CONTENT)

    def hf(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("hf")), *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=kept | given, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert "donor" in hf("auth", "whoami")
    hf("repos", "create", "north/by-command")
    hf("upload", "north/by-command", "w.bin2", "w.bin2", "--commit-message", "by command")
    hf("download", "north/by-command", "w.bin2", "--local-dir", "copy")
    assert (tmp_path / "copy" / "w.bin2").read_bytes() == CONTENT
    hf("download", "north/by-command")
    assert "north/by-command" in hf("cache", "ls")
    hf("repos", "delete", "north/by-command", "--yes")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is a package of the system")
def test_curl_uploads_downloads_goes_on_after_a_cut_and_takes_ranges(hub: Any, repo: str, tmp_path: Path) -> None:
    sent, got = tmp_path / "sent.bin2", tmp_path / "got.bin2"
    sent.write_bytes(CONTENT)

    def curl(*arguments: str) -> str:
        command = ["curl", "-fsS", "--noproxy", "*", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    digest = sha256(CONTENT).hexdigest()
    signed = ("-H", f"authorization: Bearer {hub.donor.secret}")
    address = f"{hub.foundation.url}/api/v1/hub/blob/{digest}?org={hub.north}&path=w.bin2"
    assert digest in curl(*signed, "-T", str(sent), address)
    asset = hub.asset(hub.donor, repo)["id"]
    hub.donor.verb("hub:revision:change", asset=asset, message="m", files=[{"path": "w.bin2", "sha256": digest}])
    url = f"{hub.foundation.url}/{repo}/resolve/main/w.bin2"
    assert f'etag: "{digest}"' in curl("-I", url).lower()
    got.write_bytes(CONTENT[:100_000])
    curl("-C", "-", "-o", str(got), url)
    assert got.read_bytes() == CONTENT
    curl("-r", "10-19", "-o", str(got), url)
    assert got.read_bytes() == CONTENT[10:20]
