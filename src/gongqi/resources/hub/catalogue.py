"""The catalogue: what each asset is found by, written anew in the transaction that changes it.

Whoever changes what an asset says about itself (its titles, how open it is, the head of `main`, a release) calls
`refresh` before it is done. So a search sees an asset as it is, and never one that was taken back. To write all of it
anew, after a change of terms.py, empty the table: a flow fills it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import select

from gongqi.kernel.verbs import Read, Write
from gongqi.resources.hub.models import Asset, AssetLabel, Catalogued, Ref, Revision
from gongqi.resources.hub.rules import MAIN
from gongqi.resources.hub.terms import ABOUT, CARD, NAMES, label, terms_of

CARD_CHARACTERS = 20_000  # of a card's body that are looked at: more than make TERMS terms in either language
LABELS = 200  # of one asset; a card may claim any number of tags
BATCH = 100  # assets catalogued in one transaction: a tenth of a second
TAGGED = {  # fields of a front matter, and how a tag for them begins
    "tags": "",
    "datasets": "dataset:",
    "base_model": "base_model:",
    "size_categories": "size_categories:",
    "source_datasets": "source_datasets:",
    "multilinguality": "multilinguality:",
    "task_ids": "task_ids:",
}
_LICENCE = re.compile(r"[\w.+:-]+")
_OPERATORS = frozenset({"and", "or", "with"})


def refresh(ctx: Write, asset: Asset) -> None:
    """Write down what `asset` is found by now; by nothing, when it was deleted."""
    row = ctx.session.scalar(select(Catalogued).where(Catalogued.asset == asset.id))
    if asset.deleted_at:
        if row is not None:
            ctx.session.delete(row)
        return
    head = ctx.session.execute(
        select(Revision.card, Revision.card_body)
        .join(Ref, Ref.revision == Revision.id)
        .where(Ref.asset == asset.id, Ref.kind == "branch", Ref.name == MAIN)
    ).first()
    told = ctx.session.execute(select(AssetLabel.name, AssetLabel.value).where(AssetLabel.asset == asset.id))
    card, body = (head.card, head.card_body) if head else ({}, "")
    terms = found_by(asset, card, body, [(name, value) for name, value in told])
    digest = sha256(" ".join(terms).encode()).hexdigest()
    if row is None:
        ctx.add(Catalogued(asset=asset.id, terms=terms, digest=digest))
    elif row.digest != digest:  # most commits leave the card as it is
        row.terms, row.digest = terms, digest
    ctx.session.flush()


def fill(ctx: Write, *, after: str) -> str | None:
    """Catalogue some of the assets whose id is greater and that are not; the last of them, None when there is none."""
    is_there = select(Catalogued.asset).where(Catalogued.asset == Asset.id).exists()
    missing = (
        select(Asset).where(Asset.id > after, Asset.deleted_at.is_(None), ~is_there).order_by(Asset.id).limit(BATCH)
    )
    last = None
    for asset in ctx.session.scalars(missing).all():
        refresh(ctx, asset)
        last = asset.id
    return last


def found_by(asset: Asset, card: Mapping[str, Any], body: str, told: Sequence[tuple[str, str]] = ()) -> tuple[str, ...]:
    """The terms of this asset with this card. What is nearer to its name is there again in each wider place."""
    names = (asset.slug, asset.title_zh, asset.title_en, *_texts(card, "title"))
    claimed = (value for _, value in _claims(card))
    about = (*names, asset.summary_zh, asset.summary_en, *_texts(card, "summary"), *claimed)
    whole = (*about, *_texts(card, "intended_use"), *_texts(card, "limitations"), body[:CARD_CHARACTERS])
    labels = dict.fromkeys(label(name, value) for name, value in (*_facts(asset), *told, *_claims(card)))
    return (
        *tuple(labels)[:LABELS],
        *terms_of(NAMES, *names),
        *terms_of(ABOUT, *about),
        *terms_of(CARD, *whole),
    )


def tell(ctx: Write, asset: Asset, name: str, value: str | None) -> None:
    """Put the label `name` on an asset, or take it off; for rooms above, of what they have found out about it."""
    row = ctx.session.get(AssetLabel, (asset.id, name))
    if row is not None:
        ctx.session.delete(row)
        ctx.session.flush()
    if value is not None:
        ctx.add(AssetLabel(asset=asset.id, name=name, value=value))
    ctx.session.flush()
    refresh(ctx, asset)


def labels_of(ctx: Read, asset: str) -> dict[str, str]:
    """What rooms above have found out about an asset, by their word for it."""
    query = select(AssetLabel.name, AssetLabel.value).where(AssetLabel.asset == asset)
    return {row.name: row.value for row in ctx.session.execute(query)}


def labels_on(ctx: Read, assets: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of every label of these assets (or rows of their id and what `_facts` reads), each once an asset.
    The caller has authorised."""
    keys = [asset.id for asset in assets]
    heads = (
        select(Ref.asset, Revision.card)
        .join(Revision, Revision.id == Ref.revision)
        .where(Ref.asset.in_(keys), Ref.kind == "branch", Ref.name == MAIN)
    )
    cards = {row.asset: row.card for row in ctx.session.execute(heads)}
    told: dict[str, list[tuple[str, str]]] = {}
    labels = select(AssetLabel.asset, AssetLabel.name, AssetLabel.value).where(AssetLabel.asset.in_(keys))
    for asset, *stated in ctx.session.execute(labels):
        told.setdefault(asset, []).append((stated[0], stated[1]))
    for asset in assets:
        yield from dict.fromkeys((*_facts(asset), *told.get(asset.id, ()), *_claims(cards.get(asset.id, {}))))


def _facts(asset: Asset) -> tuple[tuple[str, str], ...]:
    gated = "no" if asset.gated == "open" else "yes"
    return ("kind", asset.kind), ("org", asset.org), ("visibility", asset.visibility), ("gated", gated)


def _claims(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a card claims in a word each. A licence expression counts as a whole and by each licence in it; a task and
    a library are tags too, for who asks without saying which it is."""
    if licence := card.get("license"):
        yield "license", licence
        parts = _LICENCE.findall(licence)
        yield from (("license", part) for part in parts if len(parts) > 1 and part.lower() not in _OPERATORS)
    for name, field in (("task", "tasks"), ("language", "languages")):
        yield from ((name, value) for value in card.get(field, ()))
    yield from (("tag", value) for value in card.get("tasks", ()))
    other = card.get("other", {})
    yield from (("tag", value) for value in stated_tags(other))
    if isinstance(library := other.get("library_name"), str):
        yield from (("library", library), ("tag", library))


def stated_tags(other: Mapping[str, Any]) -> Iterator[str]:
    """The tags of a front matter, and what it says under the names that clients of Hugging Face filter by."""
    for field, prefix in TAGGED.items():
        said = other.get(field)
        for value in said if isinstance(said, list) else [said]:
            if isinstance(value, str):
                yield prefix + value


def _texts(card: Mapping[str, Any], field: str) -> Iterator[str]:
    return iter(card.get(field, {}).values())
