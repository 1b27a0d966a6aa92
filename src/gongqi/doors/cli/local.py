"""Commands that work on the home itself, without a server: checks and exports for operators and auditors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gongqi.books.ledger import export, replay
from gongqi.doors.cli.main import language
from gongqi.kernel.config import Settings


def kernel_of(ctx: click.Context) -> Any:
    return ctx.obj.assemble(Settings.from_environment())


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
    with kernel.db.reading() as session, click.open_file(str(output or "-"), "w", encoding="utf-8") as out:
        for line in export.export_beancount(session):
            out.write(line)


COMMANDS: dict[str, tuple[click.Command, ...]] = {"ledger": (check, export_beancount)}
