"""The model gateway beside its own upstream, nginx and LiteLLM, all in one run: `make bench-gateway`.

`wrk` with one thread and the model server share the second core; what is measured has the first to itself, as one
process. The gateway does all its duties: key, limits, reservation, write-ahead record, settlement. nginx only checks the
key; LiteLLM runs with its master key and without a database. Processor time a request is read from /proc and says more
than the rate where a machine is busy. Peers that are not installed are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench import Figure
from gongqi.doors.cli.client import Client

SECONDS = 5
LITELLM = Path(os.environ.get("LITELLM_PROXY", ".venv-litellm/bin/litellm"))
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream models {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} reuseport; keepalive_requests 1000000;
    location / {{
      if ($http_authorization != "Bearer sk-bench") {{ return 401; }}
      proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
SCRIPT = """
wrk.method = "POST"
wrk.headers["authorization"] = "Bearer {key}"
wrk.headers["content-type"] = "application/json"
wrk.body = [[{body}]]
"""


@dataclass(frozen=True)
class Measured:
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = free_port()
        with started([sys.executable, "-m", "bench.gateway_upstream", str(upstream)], core=1, port=upstream) as model:
            direct = measure(folder, upstream, "none", model)
            peers = {"nginx": nginx(folder, upstream), "LiteLLM": litellm(folder, upstream)}
            ours = gongqi(folder, upstream)
    yield from figures(direct, ours, peers)


def figures(direct: dict, ours: dict, peers: dict) -> Iterator[Figure]:  # type: ignore[type-arg]
    for kind, connections in (("plain", 1), ("plain", 32), ("stream", 32)):
        case, mine = (kind, connections), ours[kind, connections]
        what = f"gateway, {'40 events' if kind == 'stream' else 'in one piece'}, {connections} connections"
        yield Figure(
            f"{what}: calls/s", mine.rate, "1/s", "", "direct", direct[case].rate, mine.rate / direct[case].rate
        )
        yield Figure(f"{what}: processor time", mine.cpu_us, "µs", "")
        yield Figure(f"{what}: p99", mine.p99_ms, "ms", "≤ 5" if case == ("plain", 32) else "")
        for peer, measured in peers.items():
            if measured is not None:
                theirs = measured[case]
                least = (
                    {"nginx": 0.7 if kind == "stream" else 0.2, "LiteLLM": 100.0}[peer] if connections == 32 else None
                )
                told = "≥ 0; at least the ratio" if least and not (peer == "LiteLLM" and kind == "stream") else ""
                ratio = mine.rate / theirs.rate
                yield Figure(f"{what}: calls/s beside {peer}", mine.rate, "1/s", told, peer, theirs.rate, ratio, least)
                ratio = theirs.cpu_us / mine.cpu_us
                yield Figure(f"{what}: processor time of {peer}", theirs.cpu_us, "µs", "", "ours", mine.cpu_us, ratio)


def measure(folder: Path, port: int, key: str, process: subprocess.Popen[bytes]) -> dict[tuple[str, int], Measured]:
    found = {}
    for kind in ("plain", "stream"):
        body = {"model": "bench", "messages": [{"role": "user", "content": "hello " * 20}], "max_tokens": 64}
        script = folder / "load.lua"
        script.write_text(
            SCRIPT.format(key=key, body=json.dumps(body | ({"stream": True} if kind == "stream" else {})))
        )
        for connections in (1, 32):
            found[kind, connections] = _wrk(script, port, connections, process.pid)
    return found


def _wrk(script: Path, port: int, connections: int, pid: int) -> Measured:
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", "--latency", "-s", str(script)]
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    subprocess.run([*command, "-d1s", url], check=True, capture_output=True)  # warm
    before = cpu_seconds(pid)
    told = subprocess.run([*command, f"-d{SECONDS}s", url], check=True, capture_output=True, text=True).stdout
    spent = cpu_seconds(pid) - before
    assert "Non-2xx" not in told, told
    count = int(_found(r"(\d+) requests in", told))
    rate = float(_found(r"Requests/sec:\s+(\S+)", told))
    return Measured(
        rate,
        _ms(_found(r"(?m)^\s+50%\s+(\S+)", told)),
        _ms(_found(r"(?m)^\s+99%\s+(\S+)", told)),
        spent / max(count, 1) * 1e6,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def cpu_seconds(pid: int) -> float:
    """Of a process and its children, who are the workers of some."""
    total = 0
    for each in (pid, *_children(pid)):
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---- the systems


def gongqi(folder: Path, upstream: int) -> dict[tuple[str, int], Measured]:
    port, home = free_port(), folder / "home"
    environment = os.environ | {"GONGQI_HOME": str(home), "GONGQI_PORT": str(port)}
    with started([sys.executable, "-m", "gongqi", "serve"], core=0, port=port, environment=environment) as process:
        operator = Client(f"http://127.0.0.1:{port}", (home / "operator.token").read_text().strip())
        org = operator.verb("members:organisation:create", handle="bench", name="bench")["id"]
        operator.verb("ledger:credit:grant", owner=org, unit="CNY-fen", amount=100_000_000)
        address = f"http://127.0.0.1:{upstream}/v1"
        endpoint = operator.verb("serving:endpoint:add", name="bench", base_url=address, private=True)["id"]
        target = {"endpoint": endpoint, "model": "bench"}
        given = {"context_tokens": 8192, "output_tokens": 512, "targets": [target]}
        route = operator.verb("serving:route:define", name="bench", org=org, **given)["id"]
        operator.verb("billing:price:publish", route=route, input_nanos=30_000, output_nanos=60_000)
        limits = {"requests_per_minute": 10_000_000, "tokens_per_minute": 10_000_000_000, "parallel": 1024}
        key = operator.verb("serving:key:issue", org=org, label="bench", **limits)["secret"]
        time.sleep(2)
        return measure(folder, port, key, process)


def nginx(folder: Path, upstream: int) -> dict[tuple[str, int], Measured] | None:
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        return None
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    with started([found, "-c", str(folder / "nginx.conf"), "-e", str(folder / "e.log")], core=0, port=port) as process:
        return measure(folder, port, "sk-bench", process)


def litellm(folder: Path, upstream: int) -> dict[tuple[str, int], Measured] | None:
    if not LITELLM.exists():
        return None
    port = free_port()
    address = f"http://127.0.0.1:{upstream}/v1"
    parameters = {"model": "openai/bench", "api_base": address, "api_key": "none"}
    told = {"model_list": [{"model_name": "bench", "litellm_params": parameters}]}
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(told | {"general_settings": {"master_key": "sk-bench"}}))  # JSON is YAML
    command = [str(LITELLM), "--config", str(config), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    with started(command, core=0, port=port, seconds=240) as process:
        return measure(folder, port, "sk-bench", process)


@contextlib.contextmanager
def started(
    command: list[str], *, core: int, port: int, environment: dict[str, str] | None = None, seconds: float = 120
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + seconds
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < deadline, f"did not start: {command[0]}"
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    """Whether somebody answers there, be it with a refusal: a socket is open long before."""
    with contextlib.suppress(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=5)
        return True
    return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
