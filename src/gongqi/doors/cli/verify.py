"""`gongqi bundle` and `gongqi verify`: proof that travels, and its check without server or network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gongqi.doors.cli.main import every_word, language


@click.command()
@click.argument("release")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
def bundle(release: str, output: Path) -> None:
    """Fetch the offline bundle of RELEASE: its files, signatures, gates, lineage and proof of being logged."""
    from gongqi.doors.cli.client import Client

    Client.from_environment(language=language()).download(f"/api/v1/hub/release/{release}/bundle", output)
    click.echo(str(output))


@click.command()
@click.argument("subject")
@click.option("--key", "keys", multiple=True, help="trust only this key id (may be given more than once)")
@click.pass_obj
def verify(application: Any, subject: str, keys: tuple[str, ...]) -> None:
    """Check SUBJECT: a bundle file, needing no server and no network; or `log`, the evidence log of this home.

    Says of each claim whether it holds. Exit 0 when all hold, 1 when one does not.
    """
    sys.exit(_verify_log(application) if subject == "log" else _verify_bundle(Path(subject), set(keys)))


def _verify_bundle(path: Path, keys: set[str]) -> int:
    from gongqi.resources.hub.bundle import verify_bundle

    words = every_word()
    report = verify_bundle(path, trusted_key_ids=keys or None)
    for claim in report.claims:
        name = words.text(f"hub.claim.{claim.name}", language())
        click.echo(f"{'✓' if claim.holds else '✗'} {name}: {claim.text(words, language())}")
    if not keys and report.key_ids:
        click.echo(words.text("cli.verify.keys", language(), keys=" ".join(sorted(report.key_ids))))
    return 0 if report.holds else 1


def _verify_log(application: Any) -> int:
    from gongqi.books.evidence.verify import verify_log
    from gongqi.kernel.config import Settings
    from gongqi.kernel.db import Database

    settings = Settings.from_environment()
    count = 0
    for fault in verify_log(settings.home, Database(settings.database_url)):
        count += 1
        click.echo(f"✗ {fault}")
    if not count:
        click.echo("✓ " + ("证据日志完好" if language() == "zh" else "the evidence log holds"))
    return 1 if count else 0

