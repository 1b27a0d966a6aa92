"""An S3 server of our own: `moto_server` in a process, with one bucket. Also by hand: `python -m tests.sim.bucket`."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

READY_SECONDS = 30
KEYS = {"AWS_ACCESS_KEY_ID": "gongqi", "AWS_SECRET_ACCESS_KEY": "of no consequence"}


@contextlib.contextmanager
def bucket(*, is_open: bool = True) -> Iterator[str]:
    """The endpoint of a running server that has the bucket `blobs`; when it is not open, it lets nobody else in."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    free_requests = {} if is_open else {"INITIAL_NO_AUTH_ACTION_COUNT": "1"}
    program = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen(
        [program if program.exists() else shutil.which("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | free_requests, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _create(endpoint)
        yield endpoint
    finally:
        server.terminate()
        server.wait(10)


def _create(endpoint: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            urlopen(Request(f"{endpoint}/blobs", method="PUT"), timeout=5).close()
            return
        except (URLError, ConnectionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    with bucket() as where, contextlib.suppress(KeyboardInterrupt):
        setting = f"GONGQI_BLOBS_URL='s3://blobs?endpoint={where}'"
        sys.stdout.write("\n".join([setting, *(f"{name}={value!r}" for name, value in KEYS.items()), ""]))
        sys.stdout.flush()
        time.sleep(10**6)
