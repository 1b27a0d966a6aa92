"""`gongqi bundle` and `gongqi verify`: proof that travels, and its check without server or network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gongqi.doors.cli.main import every_word, language
from gongqi.kernel.errors import Refused

MAX_PROOF_BYTES = 1024 * 1024  # a proof is a few kilobytes; an entry at most 64 KiB


@click.command()
@click.argument("release")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def bundle(release: str, output: Path) -> None:
    """Fetch the offline bundle of RELEASE: its files, signatures, gates, lineage and proof of being logged."""
    from gongqi.doors.cli.client import Client

    Client.from_environment(language=language()).download(f"/api/v1/hub/release/{release}/bundle", output)
    click.echo(str(output))


@click.command()
@click.argument("subject")
@click.option("--key", "keys", multiple=True, help="trust only this key id (may be given more than once)")
@click.option(
    "--keyset",
    type=click.Path(path_type=Path),
    help="the foundation's public keys, as `gongqi evidence log keys` gives them; needed for a proof",
)
@click.pass_obj
def verify(application: Any, subject: str, keys: tuple[str, ...], keyset: Path | None) -> None:
    """Check SUBJECT, needing no server and no network: the bundle of a release; the proof of an evidence entry, as
    `gongqi evidence entry proof` gives it; or `log`, the evidence log of this home.

    Says of each claim whether it holds. Exit 0 when all hold, 1 when one does not.
    """
    if subject == "log":
        sys.exit(_verify_log(application))
    path = Path(subject)
    if not path.exists():
        raise Refused("cli.file-missing", path=subject[:200])
    with path.open("rb") as file:
        is_proof = file.read(1) == b"{"
    sys.exit(_verify_proof(path, keyset) if is_proof else _verify_bundle(path, set(keys)))


def _verify_proof(path: Path, keyset: Path | None) -> int:
    import orjson

    from gongqi.books.evidence.keys import KeySet
    from gongqi.books.evidence.verify import check_proof

    if keyset is None:
        raise Refused("cli.keyset-needed")
    with path.open("rb") as file:
        raw = file.read(MAX_PROOF_BYTES)
    words = every_word()
    try:
        proof = orjson.loads(raw)
        proven = check_proof(proof, KeySet.parse(keyset.read_bytes()))
    except orjson.JSONDecodeError as error:
        raise Refused("evidence.proof-malformed", detail=str(error)) from error
    except Refused as error:
        click.echo(f"✗ {words.error(error, language())[1]}")
        return 1
    facts = {"entry": proof["entry"]["id"], "index": proof["index"], "size": proven.checkpoint.size}
    click.echo("✓ " + words.text("cli.verify.proof", language(), **facts))
    return 0


def _verify_bundle(path: Path, keys: set[str]) -> int:
    from gongqi.resources.hub.verify import verify_bundle

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
        click.echo("✓ " + every_word().text("cli.verify.log", language()))
    return 1 if count else 0
