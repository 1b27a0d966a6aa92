"""Children that run models: started by what the database says, heard, started again, let come to their end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gongqi.kernel.errors import Refused
from gongqi.kernel.sockets import short_name
from gongqi.resources.serving import hosted
from gongqi.resources.serving.engines import parts
from gongqi.resources.serving.engines.host import DIED, MEMORY, READY, RESTING, Host, State, socket_of
from gongqi.resources.serving.models import ModelEndpoint
from tests.house.conftest import wait_for
from tests.resources.serving.conftest import load_market
from tests.sim import tiny_models


@pytest.fixture
def market(build: Callable[..., Any]) -> Any:
    made = load_market().open_market(build)
    made.kernel.parts[Host] = Host(made.kernel)
    return made


CALLERS = 16  # who keep an engine at work until it has said that somebody waits, which it does once a second


@pytest.fixture
def host(market: Any) -> Iterator[Host]:
    made = market.kernel.part(Host)
    made.start()
    yield made
    made.stop()
    assert list((market.kernel.settings.home / "engines").glob("*.sock")) == []


def release(market: Any, files: dict[str, bytes], slug: str = "embedder") -> str:
    asset = market.asset("laboratory", slug, "code")  # a model would have to say what it was trained on
    brought = [
        market.bring(
            "laboratory", path, content, "parameters" if path.endswith((".onnx", ".gguf")) else "model-metadata"
        )
        for path, content in files.items()
    ]
    return market.release("laboratory", asset, market.revision("laboratory", asset, brought))


def begin(market: Any, release: str, name: str = "embedder", **more: Any) -> str:
    return market.do(market.operator, "serving:endpoint:host", release=release, name=name, **more).id


def state(host: Host, endpoint: str) -> State | None:
    return next((each for each in host.states() if each.endpoint == endpoint), None)


def becomes(host: Host, endpoint: str, wanted: str | None, restarts: int = 0) -> State | None:
    def look() -> tuple[State | None] | None:
        found = state(host, endpoint)
        is_so = found is None if wanted is None else found and found.state == wanted and found.restarts >= restarts
        return (found,) if is_so else None

    return wait_for(look)[0]


def pid(host: Host, endpoint: str) -> int:
    process = host._kept[endpoint].process
    assert process is not None
    return process.pid


def voice(host: Host, endpoint: str) -> Path:
    """The child's end of the pipe on which it is heard."""
    process = host._kept[endpoint].process
    assert process is not None and process.stdout is not None
    ours = os.readlink(f"/proc/self/fd/{process.stdout.fileno()}")
    return next(file for file in Path(f"/proc/{process.pid}/fd").iterdir() if os.readlink(file) == ours)


class Line(http.client.HTTPConnection):
    """To an engine's socket, as the gateway has it."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        with short_name(self.path) as name:
            self.sock.connect(name)


def ask(market: Any, endpoint: str, path: str = "/v1/embeddings", method: str = "POST", **body: Any) -> tuple[int, Any]:
    with contextlib.closing(Line(socket_of(market.kernel.settings.home, endpoint))) as line:
        line.request(method, path, json.dumps(body) if body else None)
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.heavy
def test_what_is_hosted_answers_at_its_socket_and_is_confined(market: Any, host: Host) -> None:
    endpoint = begin(market, release(market, tiny_models.embedder()))
    seen = becomes(host, endpoint, READY)
    assert seen is not None and seen.engine == "onnx" and seen.memory_bytes > 1 << 20 and seen.trouble is None
    status, answer = ask(market, endpoint, input="公器")
    assert status == 200 and answer["usage"]["prompt_tokens"] == 4
    process = pid(host, endpoint)
    limits = Path(f"/proc/{process}/limits").read_text()
    assert str(4096 << 20) in next(line for line in limits.splitlines() if line.startswith("Max data size"))
    environment = Path(f"/proc/{process}/environ").read_text()
    assert "GONGQI" not in environment and "PATH" not in environment
    assert os.readlink(f"/proc/{process}/ns/net") != os.readlink("/proc/self/ns/net")
    listed = market.ask(market.operator, "serving:engine:list").items
    assert [(each.endpoint, each.state, each.name) for each in listed] == [(endpoint, "ready", "embedder")]


@pytest.mark.heavy
def test_what_the_engine_refuses_is_said_as_openai_s_clients_read_it(market: Any, host: Host) -> None:
    endpoint = begin(market, release(market, tiny_models.embedder()))
    becomes(host, endpoint, READY)
    status, answer = ask(market, endpoint, input="")
    assert status == 400 and answer["error"]["code"] == "serving.embeddings-invalid"
    assert set(answer["error"]["localized"]) == {"zh", "en"} and answer["error"]["type"] == "invalid_request_error"
    assert ask(market, endpoint, path="/v1/chat/completions")[0] == 404
    assert ask(market, endpoint, method="PUT")[0] == 405


@pytest.mark.long
def test_one_that_is_killed_is_started_again_and_until_then_turns_callers_away(market: Any, host: Host) -> None:
    endpoint = begin(market, release(market, tiny_models.embedder()))
    becomes(host, endpoint, READY)
    os.kill(pid(host, endpoint), signal.SIGKILL)
    with pytest.raises(OSError):
        wait_for(lambda: ask(market, endpoint, input="公器") and None, seconds=5)
    seen = becomes(host, endpoint, READY, restarts=1)
    assert seen is not None and seen.trouble == DIED
    assert ask(market, endpoint, input="公器")[0] == 200


@pytest.mark.long
@pytest.mark.parametrize("nonsense", [b"{}]\n", b'{"waiting": -1}\n', b'{"failed": {}}\n', b"x" * (64 << 10)])
def test_one_that_talks_nonsense_is_ended_and_started_again(market: Any, host: Host, nonsense: bytes) -> None:
    endpoint = begin(market, release(market, tiny_models.embedder()))
    becomes(host, endpoint, READY)
    with voice(host, endpoint).open("wb", buffering=0) as pipe:
        pipe.write(nonsense)
    seen = becomes(host, endpoint, READY, restarts=1)
    assert seen is not None and seen.trouble == DIED


@pytest.mark.long
def test_what_is_under_way_comes_to_its_end_when_the_endpoint_is_retired(market: Any, host: Host) -> None:
    endpoint = begin(market, release(market, tiny_models.embedder(hidden=64)))
    becomes(host, endpoint, READY)
    told: list[int] = []
    texts = ["the quick brown fox jumps over the lazy dog " * 8] * 1024

    def call() -> None:
        told.append(ask(market, endpoint, input=texts)[0])

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    wait_for(lambda: True if (found := state(host, endpoint)) and found.waiting else None)
    market.do(market.operator, "serving:endpoint:retire", endpoint=endpoint)
    assert becomes(host, endpoint, None) is None
    for caller in callers:
        caller.join(30)
    assert told == [200] * CALLERS


@pytest.mark.long
def test_what_is_withdrawn_is_no_longer_run(market: Any, host: Host) -> None:
    published = release(market, tiny_models.embedder())
    endpoint = begin(market, published)
    becomes(host, endpoint, READY)
    market.do(market.operator, "hub:release:withdraw", release=published, reason="found wrong")
    market.work()
    seen = market.ask(market.operator, "serving:endpoint:get", endpoint=endpoint)
    assert seen.state == "retired" and len(market.evidence("serving.endpoint-retired")) == 1
    assert becomes(host, endpoint, None) is None


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "trouble"), [("tokenizer.json", "serving.engine-unloadable"), ("", "serving.model-altered")]
)
def test_what_cannot_be_run_rests_and_says_why(market: Any, host: Host, part: str, trouble: str) -> None:
    files = tiny_models.embedder()
    if part:
        files[part] = b"{}"
    published = release(market, files)
    if not part:  # somebody has been at the disk
        [blob] = [
            each for each in (market.kernel.settings.home / "blobs").rglob("*") if _is(each, files["config.json"])
        ]
        os.chmod(blob, 0o600)
        blob.write_bytes(b"{}")
    seen = becomes(host, begin(market, published), RESTING, restarts=1)
    assert seen is not None and seen.trouble == trouble


def _is(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


@pytest.mark.long
def test_one_that_wants_more_memory_than_it_may_have_ends_alone(market: Any, host: Host) -> None:
    published = release(market, tiny_models.embedder())
    host.stop()
    endpoint = begin(market, published)
    market.kernel.transact(
        lambda ctx: setattr(ctx.session.get(ModelEndpoint, endpoint), "memory_mib", 4), reason="test"
    )
    other = Host(market.kernel)
    other.start()
    try:
        seen = becomes(other, endpoint, RESTING, restarts=1)
        assert seen is not None and seen.trouble in (DIED, MEMORY, "serving.engine-unloadable")
    finally:
        other.stop()


@pytest.mark.long
def test_a_second_host_of_one_home_waits_for_the_first(market: Any, host: Host) -> None:
    endpoint = begin(market, release(market, tiny_models.embedder()))
    becomes(host, endpoint, READY)
    other = Host(market.kernel)
    other.start()
    try:
        with pytest.raises(AssertionError):
            wait_for(lambda: other.states() or None, seconds=2)
        host.stop()
        assert becomes(other, endpoint, READY) is not None
    finally:
        other.stop()


# ---- the verb


def refused(work: Callable[..., Any], *given: Any, **more: Any) -> str:
    with pytest.raises(Refused) as caught:
        work(*given, **more)
    return caught.value.code


def test_only_a_published_release_with_a_model_that_an_engine_runs_is_hosted(market: Any) -> None:
    files = tiny_models.embedder()
    published = release(market, files)
    begin(market, published)
    assert refused(begin, market, published) == "serving.name-taken"
    assert refused(begin, market, published, "other", file="none.onnx") == "serving.no-engine"
    bare = release(market, {"model.onnx": files["onnx/model.onnx"]}, "bare")
    assert refused(begin, market, bare, "other") == "serving.engine-file-missing"
    asset, revision = market.dataset()
    draft = market.do(market.owner("hospital"), "hub:release:draft", asset=asset, revision=revision, name="1.0.0")
    assert refused(begin, market, draft.id, "other") == "serving.release-not-published"
    assert refused(begin, market, "rel_none", "other") == "access.not-found"
    given = {"release": published, "name": "other"}
    assert refused(market.do, market.owner("laboratory"), "serving:endpoint:host", **given) == "access.forbidden"
    [entry] = market.evidence("serving.endpoint-hosted")
    assert entry.facts["release"] == published and entry.facts["engine"] == "onnx"


def test_what_is_not_installed_is_said_before_anything_is_made(market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    published = release(market, tiny_models.embedder())
    monkeypatch.setitem(parts.NEEDS, parts.ONNX, "nobody_has_this")
    assert refused(begin, market, published) == "serving.engine-missing"


def test_there_are_only_so_many(market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    published = release(market, tiny_models.embedder())
    begin(market, published)
    monkeypatch.setattr(hosted, "MAX_HOSTED", 1)
    assert refused(begin, market, published, "other") == "serving.engines-too-many"


# ---- kill -9 of the server

SERVER = """
from gongqi import app
from gongqi.kernel.config import Settings
from gongqi.resources.serving.engines.host import Host
host = app.assemble(Settings.from_environment()).part(Host)
host.start()
while not any(each.state == "ready" for each in host.states()):
    pass
[kept] = host._kept.values()
print(kept.process.pid, flush=True)
input()
"""


@pytest.mark.long
def test_no_child_is_left_when_its_server_is_killed(market: Any, database_url: str) -> None:
    begin(market, release(market, tiny_models.embedder()))
    home = str(market.kernel.settings.home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GONGQI_")}
    environment |= {"GONGQI_HOME": home, "GONGQI_DATABASE_URL": database_url}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    engine = int(server.stdout.readline())
    assert Path(f"/proc/{engine}/cmdline").read_bytes()
    server.kill()
    server.wait()
    wait_for(lambda: True if _has_ended(engine) else None, seconds=10)


def _has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
