"""`gongqi push`: a folder becomes a revision of an asset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import orjson

from gongqi.doors.cli.client import Client, Problem
from gongqi.doors.cli.main import language

MAX_FILES = 10_000


@click.command()
@click.argument("asset")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--message", "-m", required=True, help="what this revision is")
@click.option("--component", "components", multiple=True, metavar="PATH=KIND[:LICENCE]", help="what a file is")
@click.option("--source", "sources", multiple=True, metavar="RELATION=REVISION", help="what it was made from")
def push(asset: str, folder: Path, message: str, components: tuple[str, ...], sources: tuple[str, ...]) -> None:
    """Upload every file of FOLDER and commit them as the next revision of ASSET."""
    from gongqi.doors.cli.verbs import say_problem

    kinds = dict(each.split("=", 1) for each in components)
    lineage = [{"relation": r, "revision": v} for r, v in (each.split("=", 1) for each in sources)]
    try:
        revision = push_folder(
            Client.from_environment(language=language()), asset, folder, message=message, kinds=kinds, lineage=lineage
        )
    except Problem as problem:
        say_problem(problem)
        raise SystemExit(1) from None
    click.echo(orjson.dumps(revision, option=orjson.OPT_INDENT_2).decode())


def push_folder(
    client: Client,
    asset: str,
    folder: Path,
    *,
    message: str,
    kinds: dict[str, str],
    lineage: list[dict[str, str]],
    key: str | None = None,
) -> dict[str, Any]:
    """Upload what is not there yet, then commit. `kinds` maps a path to `component` or `component:licence`."""
    os.scandir(folder).close()  # a folder that is none is said before anything is asked
    owner = client.read("hub:asset:get", asset)["org"]
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(paths) > MAX_FILES:
        raise click.UsageError(f"{len(paths)} > {MAX_FILES}")
    files = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        component, _, licence = kinds.get(name, "").partition(":")
        sha256 = client.upload(path, org=owner, path=name)
        files.append({"path": name, "sha256": sha256, "component": component or None, "license": licence or None})
    return client.verb("hub:revision:commit", key=key, asset=asset, message=message, files=files, lineage=lineage)
