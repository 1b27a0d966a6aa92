"""The whole house behind a real server, and its command line as a process of its own.

`Foundation` is what `gongqi serve` runs, in this process, so that a test may also look at the kernel; `Command` is
`gongqi` itself, started as a stranger would start it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from gongqi import app
from gongqi.doors.cli.client import Client, Problem
from gongqi.doors.web.sending import Protocol
from gongqi.doors.web.server import Server
from gongqi.kernel.clock import Clock
from gongqi.kernel.config import Settings

START_SECONDS = 30.0
WAIT_SECONDS = 60.0
PASSWORD = "Zx7-93_qv0Lw4-0k2pT"


class Foundation:
    """A foundation that serves on a port of this machine until `stop`."""

    def __init__(self, home: Path, database_url: str, *, clock: Clock | None = None, port: int = 0) -> None:
        listener = socket.create_server(("127.0.0.1", port))
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {"GONGQI_HOME": str(home), "GONGQI_PORT": str(self.port), "GONGQI_DATABASE_URL": database_url}
        self.settings = Settings.from_environment(environment)
        self.kernel = app.assemble(self.settings, clock=clock)
        app.prepare(self.kernel)
        self.token = (self.settings.home / "operator.token").read_text("ascii").strip()
        self.operator = self.client(self.token)
        self.application = application = app.application(self.kernel)
        self.fork = application.app.app  # within the lifespan and the envelope
        self.routes = self.fork.app.routes
        config = uvicorn.Config(
            application,
            http=Protocol,
            lifespan="on",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        self._server = Server(config, self.kernel)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([listener])), daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started or None, alive=self._thread.is_alive)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()

    def client(self, token: str | None = None, language: str = "en") -> Client:
        return Client(self.url, token, language=language)

    # ---- people

    def organisation(self, handle: str, name: str | None = None) -> str:
        return self.operator.verb("members:organisation:create", handle=handle, name=name or handle)["id"]

    def person(self, handle: str, org: str, role: str, name: str | None = None) -> Client:
        """Someone who came in by a one-time link and has a password since; `session` is that of their cookie."""
        inside = {} if org == "*" else {"org": org, "role": role}
        made = self.operator.verb("members:person:create", handle=handle, name=name or handle, **inside)
        if org == "*":
            self.operator.verb("members:membership:grant", party=made["id"], org="*", role=role)
        first = self.sign_in(made["id"])
        first.verb("members:password:set", password=PASSWORD)
        first.verb("members:session:end", session=first.session)  # type: ignore[attr-defined]
        return self.back(handle)

    def back(self, handle: str) -> Client:
        """The same person, come back by their password."""
        return self._with(self.client().sign_in(handle, PASSWORD))

    def sign_in(self, party: str) -> Client:
        link = self.operator.verb("members:signin:link", party=party)["link"]
        begun = self.client().verb("members:signin:redeem", secret=link.rsplit("/", 1)[1])
        return self._with(begun)

    def _with(self, begun: dict[str, Any]) -> Client:
        client = self.client(begun["secret"])
        client.secret, client.party, client.session = begun["secret"], begun["party"], begun["session"]  # type: ignore[attr-defined]
        return client

    # ---- things

    def bring(self, client: Client, org: str, path: str, content: bytes, **more: Any) -> dict[str, Any]:
        """Upload bytes; returns what a commit says about the file."""
        digest = sha256(content).hexdigest()
        answer = self.put(client, org, path, content, digest)
        if answer.status_code >= 400:
            raise Problem(answer.json())
        return {"path": path, "sha256": digest, **more}

    def put(self, client: Client, org: str, path: str, content: Any, digest: str, **headers: str) -> httpx.Response:
        params = {"org": org, "path": path}
        return client.http.put(f"/api/v1/hub/blob/{digest}", params=params, content=content, headers=headers)

    def asset(self, client: Client, org: str, slug: str, kind: str = "dataset", **more: Any) -> str:
        titles = {"title_zh": slug, "title_en": slug} | more
        return client.verb("hub:asset:create", org=org, slug=slug, kind=kind, **titles)["id"]

    def evidence_size(self) -> int:
        return self.operator.read("evidence:log:checkpoint")["size"]


def wait_for(
    look: Callable[[], Any], *, seconds: float = WAIT_SECONDS, alive: Callable[[], bool] = lambda: True
) -> Any:
    """What `look` finds once it is not None."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline and alive(), "it did not come"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def wait() -> Callable[..., Any]:
    return wait_for


@pytest.fixture(scope="session")
def found() -> type[Foundation]:
    """For foundations that several tests share: `found(home, database_url)`."""
    return Foundation


@pytest.fixture
def foundation(tmp_path: Path, database_url: str) -> Iterator[Foundation]:
    made = Foundation(tmp_path / "home", database_url)
    yield made
    made.stop()


class Command:
    """`gongqi ARGUMENTS` as a process, its lines as they come; `terminal` gives it one to write to.

    `within` is a command that runs it, such as one that limits what it may use.
    """

    def __init__(
        self, *arguments: str, home: Path, port: int, language: str = "en", terminal: bool = False,
        within: tuple[str, ...] = (), **environment: str,
    ) -> None:  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GONGQI_", "LC_", "LANG"))}
        given = {"GONGQI_HOME": str(home), "GONGQI_PORT": str(port), "GONGQI_LANG": language}
        self.home, self.port = home, port
        ours, theirs = os.openpty() if terminal else (None, subprocess.PIPE)
        self.process = subprocess.Popen(
            [*within, sys.executable, "-m", "gongqi", *arguments], env=kept | given | environment,
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        if terminal:
            os.close(theirs)
        self.lines: list[str] = []
        self.errors: list[str] = []
        out = self.process.stdout if ours is None else os.fdopen(ours, "rb", buffering=0)
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((out, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        with contextlib.suppress(OSError):  # a terminal whose other end is gone says EIO, not the end
            for line in iter(stream.readline, b""):
                lines.append(line.decode().rstrip("\r\n"))

    def says(self, words: str, seconds: float = WAIT_SECONDS) -> str:
        """The first line with `words` in it, once it is there."""

        def look() -> str | None:
            return next((line for line in [*self.lines] if words in line), None)

        try:
            return wait_for(look, seconds=seconds, alive=lambda: self.process.poll() is None or look() is not None)
        except AssertionError:
            raise AssertionError(f"never said {words!r}: {self.lines} {self.errors}") from None

    def ends(self, seconds: float = WAIT_SECONDS) -> int:
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return code

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to everything that was started from there."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """kill -9 of the server and of the tour that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def command(tmp_path: Path, port: int, database_url: str) -> Iterator[Callable[..., Command]]:
    """`command("serve")`: on a home of its own (`home=`), a free port (`port=`) and the database of this run."""
    started: list[Command] = []
    elsewhere = {} if database_url.startswith("sqlite") else {"GONGQI_DATABASE_URL": database_url}

    def start(*arguments: str, **given: Any) -> Command:
        started.append(Command(*arguments, **({"home": tmp_path / "home", "port": port} | elsewhere | given)))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
