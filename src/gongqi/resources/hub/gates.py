"""The questions that stand before every publication and every opening. Who answers them, the hub does not know.

`ReleaseQuestion` carries every fact about the release that the hub holds, so that an answerer needs no table of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gongqi.kernel.gates import Gate


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file: `license` is its own SPDX expression, or None when the card's applies."""

    path: str
    sha256: str
    size: int
    component: str | None
    license: str | None


@dataclass(frozen=True, slots=True)
class ReleaseQuestion:
    """May this revision be published under this name?

    `card` is the front matter in the form of `rules.Card.front_matter`; `card_percent` and `card_missing` say how
    complete it is for this kind of asset; `lineage` is (source revision id, relation) of each direct source.
    """

    release: str
    asset: str
    kind: str
    org: str
    revision: str
    digest: str
    name: str
    files: tuple[FileFacts, ...]
    card: Mapping[str, Any]
    card_percent: int
    card_missing: tuple[str, ...]
    lineage: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class OpeningQuestion:
    """May this asset be opened as far as `visibility`?"""

    asset: str
    kind: str
    org: str
    visibility: str


RELEASE_PUBLISH = Gate("hub:release:publish", ReleaseQuestion)
ASSET_OPEN = Gate("hub:asset:open", OpeningQuestion)
