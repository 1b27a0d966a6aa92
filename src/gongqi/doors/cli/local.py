"""Commands that work on the home itself, without a server: checks and exports for operators and auditors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Any

import click

from gongqi.books.ledger import export, replay
from gongqi.doors.cli.main import language
from gongqi.kernel.config import Settings
from gongqi.kernel.errors import Refused


def kernel_of(ctx: click.Context) -> Any:
    """The kernel of this home. What has never been started is no foundation: to find it in order would mislead."""
    settings = Settings.from_environment()
    if not (settings.home / "keys").is_dir():
        raise Refused("cli.home-empty", home=str(settings.home))
    return ctx.obj.assemble(settings)


@click.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Replay the whole ledger; exit 1 and name the first false row if anything does not add up."""
    kernel = kernel_of(ctx)
    with kernel.db.reading() as session:
        report = replay.report(session)
    words = kernel.house.words
    for finding in report.findings:
        what = words.text(f"ledger.finding.{finding.what}", language())
        click.echo(f"✗ {finding.row}: {what} ({finding.want} ≠ {finding.got})")
    counts = {"transactions": report.transactions, "postings": report.postings}
    click.echo(f"{'✓' if report.true else '✗'} " + words.text("cli.ledger.counts", language(), **counts))
    sys.exit(0 if report.true else 1)


@click.command("export")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="default: standard output")
@click.pass_context
def export_beancount(ctx: click.Context, output: Path | None) -> None:
    """Write the ledger as a beancount file, which `bean-check` accepts."""
    kernel = kernel_of(ctx)
    with kernel.db.reading() as session, _whole(output) as out:
        for line in export.export_beancount(session):
            out.write(line)


@click.group()
def blobs() -> None:
    """The stored bytes themselves."""


@blobs.command("check")
@click.pass_context
def check_blobs(ctx: click.Context) -> None:
    """Hash every stored blob again; exit 1 and name each that has been altered, cannot be read, or is missing."""
    from gongqi.kernel.blobs.audit import audit
    from gongqi.resources.hub.quotas import digests_in_use

    kernel = kernel_of(ctx)
    words = kernel.house.words
    count = size_bytes = faults = 0
    for each in audit(kernel.blobs, digests_in_use(kernel)):
        if each.fault:
            faults += 1
            click.echo(f"✗ {each.sha256}: " + words.text(f"cli.blobs.{each.fault}", language()))
        else:
            count, size_bytes = count + 1, size_bytes + each.size
    said = words.text("cli.blobs.counts", language(), count=count, size_bytes=size_bytes, faults=faults)
    click.echo(f"{'✗' if faults else '✓'} {said}")
    sys.exit(1 if faults else 0)


def _whole(output: Path | None) -> IO[Any]:
    """Where to write: a file appears only when it is whole, for half a book looks like a book."""
    return click.open_file(str(output or "-"), "w", encoding="utf-8", atomic=output is not None)


COMMANDS: dict[str, tuple[click.Command, ...]] = {"ledger": (check, export_beancount)}
