"""The servers of the hub's benchmark, each a process of its own: `gongqi serve` with its memory watched, and nginx."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.bench_doors import free_port, server
from gongqi.doors.cli.client import Client

LOOK_SECONDS = 0.5  # a look takes the kernel some milliseconds, which would be in the figures
START_SECONDS = 10
NEEDED = {"nginx": "nginx-light", "curl": "curl"}  # program → package of Debian
NGINX = """
daemon off; worker_processes auto; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream; keepalive_requests 100000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fast;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


class Server:
    """A running `gongqi serve`, and what its clients need."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, home: Path) -> None:
        self.port, self.url, self.home = port, f"http://127.0.0.1:{port}", home
        self.process = process
        self.idle_mib = self.peak_mib = self.memory_mib()
        self.token = (home / "operator.token").read_text("ascii").strip()
        self.operator = Client(self.url, self.token)

    def memory_mib(self) -> float:
        """Of the server and the children in which it inspects; a page that they share is counted once (PSS)."""
        return sum(map(_pss_kib, _family(self.process.pid))) / 1024

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, the most memory that the server takes is noted."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(LOOK_SECONDS):
                self.peak_mib = max(self.peak_mib, self.memory_mib())

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Server]:
    port = free_port()
    given = {"GONGQI_HOME": str(home), "GONGQI_PORT": str(port), **settings}
    with server([sys.executable, "-m", "gongqi", "serve"], port, **given) as process:
        yield Server(process, port, home)


@contextmanager
def nginx(locations: str) -> Iterator[int]:
    """nginx with these locations; yields its port."""
    with tempfile.TemporaryDirectory(prefix="gongqi-nginx-") as folder:
        port, config = free_port(), Path(folder) / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(NGINX.format(folder=folder, port=port, locations=locations, user=user), "utf-8")
        with server([program("nginx"), "-e", f"{folder}/start.log", "-c", str(config)], port):
            yield port


def program(name: str) -> str:
    """Where a program is that the machine must have."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        sys.exit(f"bench: {name} is needed and was not found; on Debian: apt-get install {NEEDED[name]}")
    return found


def check_programs() -> None:
    for name in NEEDED:
        program(name)


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text("ascii").split():
                yield from _family(int(child))


def _pss_kib(pid: int) -> int:
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in told.splitlines() if line.startswith("Pss:")), 0)
