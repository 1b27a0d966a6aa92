"""What the gateway's benchmarks start and how they load it: our processes, nginx, LiteLLM, `wrk`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

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
BODY = {"model": "bench", "messages": [{"role": "user", "content": "hello " * 20}], "max_tokens": 64}
SCRIPT = """
wrk.method = "POST"
wrk.headers["authorization"] = "Bearer {key}"
wrk.headers["content-type"] = "application/json"
wrk.body = [[{body}]]
"""


class NotStarted(Exception):
    """A system that does not answer within its time."""


@dataclass(frozen=True)
class Measured:
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def measure(folder: Path, port: int, key: str, process: subprocess.Popen[bytes]) -> dict[tuple[str, int], Measured]:
    found = {}
    for kind in ("plain", "stream"):
        script = script_of(folder, key, kind)
        for connections in (1, 32):
            found[kind, connections] = wrk(script, port, connections, process.pid)
    return found


def script_of(folder: Path, key: str, kind: str) -> Path:
    script = folder / "load.lua"
    script.write_text(SCRIPT.format(key=key, body=json.dumps(BODY | {"stream": kind == "stream"})))
    return script


def wrk(script: Path, port: int, connections: int, pid: int) -> Measured:
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


@dataclass(frozen=True)
class Ours:
    """A server with a model behind `upstream`, and a key to it."""

    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    port: int
    key: str
    home: Path


@contextlib.contextmanager
def server(folder: Path, upstream: int, *, core: int | None = 0, database: str | None = None) -> Iterator[Ours]:
    port, home = free_port(), folder / "home"
    environment = os.environ | {"GONGQI_HOME": str(home), "GONGQI_PORT": str(port)}
    if database is not None:
        environment["GONGQI_DATABASE_URL"] = database
    with started([sys.executable, "-m", "gongqi", "serve"], core=core, port=port, environment=environment) as process:
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
        yield Ours(environment, process, port, key, home)


@contextlib.contextmanager
def gateway(
    ours: Ours, *, core: int | None = 0, port: int | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A gateway process beside that server; several may be given one port."""
    port = port or free_port()
    command = [sys.executable, "-m", "gongqi", "gateway", "--port", str(port)]
    with started(command, core=core, port=port, environment=ours.environment) as process:
        yield port, process


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
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # it would ask the network for prices
    try:
        with started(command, core=0, port=port, environment=environment, seconds=150) as process:
            return measure(folder, port, "sk-bench", process)
    except NotStarted as system:
        print(f"left out, for it did not start: {system}", file=sys.stderr)
        return None


@contextlib.contextmanager
def started(
    command: list[str], *, core: int | None, port: int, environment: dict[str, str] | None = None, seconds: float = 120
) -> Iterator[subprocess.Popen[bytes]]:
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*pinned, *command], env=environment, **quiet)
    try:
        deadline = time.monotonic() + seconds
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(command[0])
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
