"""Data agreements: on what terms what a caller knows of an answer may be sent back. One form for deployments and models.

The terms have a version that grows with every change, and a digest of all the rest. Whoever sends something back agrees
to a version or a digest, so that what they agreed to is never in doubt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from gongqi.kernel.verbs import Output

MAX_AGREEMENT = 20_000  # characters a language: some ten pages
MAX_RETENTION_DAYS = 36_500

Terms = Annotated[str, Field(min_length=1, max_length=MAX_AGREEMENT)]
Purpose = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
RetentionDays = Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)]
Openness = Literal["private", "members", "public"]
TO_IMPROVE = "dataset-improvement"


class Agreement(Output):
    """`sha256` covers all the rest. `retention_days` None: what is sent back is kept until the dataset is withdrawn.

    `visibility`: how open the dataset is that it goes to; None: as open as the one the model learned from. `names_org`:
    whether that dataset says which organisation sent it.
    """

    text_zh: str
    text_en: str
    purpose: str
    retention_days: int | None
    visibility: str | None = None
    names_org: bool = False
    version: int
    sha256: str


def drawn_up(terms: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The agreement of these terms; the one before, where they are the same."""
    if before is not None and all(before.get(name) == value for name, value in terms.items()):
        return dict(before)
    made = dict(terms) | {"version": before["version"] + 1 if before else 1}
    return made | {"sha256": hashlib.sha256(orjson.dumps(made, option=orjson.OPT_SORT_KEYS)).hexdigest()}
