"""Starting and keeping the server: `up`, `serve`, `gateway`, `migrate`, `token`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click

from gongqi.doors.cli.main import language
from gongqi.kernel.config import Settings

TOUR_NAME = "first"
READY_SECONDS = 30.0
GATEWAY_PORT = 8421


def say(zh: str, en: str) -> None:
    click.echo(zh if language() == "zh" else en)


@click.command()
@click.option("--tour/--no-tour", default=True, help="walk the chain on the first start")
@click.pass_obj
def up(application: Any, tour: bool) -> None:
    """Start the foundation. On the first start, donate, review, release, serve and pay back one real model."""
    _serve(application, tour=tour)


@click.command()
@click.pass_obj
def serve(application: Any) -> None:
    """Start the server and nothing else."""
    _serve(application, tour=False)


@click.command()
@click.option("--port", default=GATEWAY_PORT, show_default=True, type=click.IntRange(1, 65535), help="where it listens")
@click.pass_obj
def gateway(application: Any, port: int) -> None:
    """Serve calls of models in a process of their own, beside the server, on the same home. Several may share a port."""
    settings = Settings.from_environment()
    settings.prepare_home()
    listener = application.listen(settings, port=port, shared=True)
    kernel = application.assemble(settings)
    say(f"模型网关运行于 http://{settings.host}:{port}/v1", f"Model gateway on http://{settings.host}:{port}/v1")
    sys.stdout.flush()
    application.serve_calls(kernel, listener)
    say("已停止。", "Stopped.")


@click.command()
@click.pass_obj
def migrate(application: Any) -> None:
    """Bring the database schema up to date, whole or not at all."""
    application.assemble(Settings.from_environment(), migrate=True).db.close()
    say("数据库结构已是最新。", "The database schema is up to date.")


@click.command()
def token() -> None:
    """Say where the operator's token is; it is not printed, so that it does not end in a log."""
    click.echo(str(Settings.from_environment().home / "operator.token"))


def _serve(application: Any, *, tour: bool) -> None:
    settings = Settings.from_environment()
    settings.prepare_home()
    listener = application.listen(settings)
    with application.only_server(settings):
        kernel = application.assemble(settings)
        link = application.prepare(kernel)
        say(f"服务运行于 {settings.origin}", f"Serving on {settings.origin}")
        after = threading.Thread(target=_after_start, args=(settings, link, tour), daemon=True)
        after.start()
        with contextlib.suppress(
            KeyboardInterrupt
        ):  # uvicorn has already shut down in order; it only passes the word on
            application.serve(kernel, listener)
    say("已停止。", "Stopped.")


def _after_start(settings: Settings, link: str, tour: bool) -> None:
    """Once the server answers: the tour, in a process of its own because what it needs is heavy; then the way in."""
    done = settings.home / "tour" / f"{TOUR_NAME}.done"
    if tour and not done.exists():
        process = subprocess.Popen(
            [sys.executable, "-m", "gongqi", "tour", "--name", TOUR_NAME],
            env=os.environ | {"GONGQI_URL": settings.origin},
        )
        stopped = process.wait()
        if stopped:
            if stopped not in (-signal.SIGINT, -signal.SIGTERM, 130):
                say(
                    "全链演示未走完；再次运行 make up 会从中断处继续。",
                    "The tour did not finish; make up continues it from where it stopped.",
                )
            return
    say(f"控制台：{settings.origin}/", f"Console: {settings.origin}/")
    say(f"一次性登录链接：{link}", f"One-time sign-in link: {link}")
    say("按 Ctrl-C 停止。", "Press Ctrl-C to stop.")
    sys.stdout.flush()


def write_private(path: Path, text: str) -> None:
    """Write a secret so that it is whole and mode 0600 from the first byte on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
