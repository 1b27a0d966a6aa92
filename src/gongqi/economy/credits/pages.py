"""The pages of credits: the policies with the splits that concern the reader, and how one fee was divided."""

from __future__ import annotations

from functools import partial
from typing import Any

from gongqi.books.ledger.rules import written
from gongqi.economy.credits import service
from gongqi.economy.credits.rules import SHARES
from gongqi.kernel.room import View
from gongqi.kernel.verbs import Paged, Read

PAGE = 30


def load_credits(ctx: Read, cursor: str | None = None) -> dict[str, Any]:
    splits = service.ListSplits.model_validate({"limit": PAGE, "cursor": cursor})
    return {
        "shares": SHARES,
        "policies": service.list_policies.run(ctx, Paged(limit=PAGE, cursor=None)).items,
        "page": service.list_splits.run(ctx, splits),
    }


def load_split(ctx: Read, key: str) -> dict[str, Any]:
    split = service.get_split.run(ctx, service.OneSplit(split=key))
    return {
        "split": split,
        "write": partial(written, unit=split.unit),
        "releases": service.releases_on_path(ctx, split),
    }


VIEWS = (
    View("/credits", "credits_list.html", load_credits, params=("cursor",)),
    View("/credits/split/{key}", "credits_split.html", load_split, id_prefix="spl"),
)
