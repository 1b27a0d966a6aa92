"""The packs that come with this version: one ordered tuple, read at the first use and then known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from gongqi.packs.cn import PACK as CN
from gongqi.packs.eu import PACK as EU
from gongqi.packs.reading import ReadPack, read
from gongqi.resources.serving.plane.duties import Detector

PACKS = (CN, EU)


@cache
def shelf() -> Mapping[str, ReadPack]:
    """By name. Raises ValueError at a pack that is not as packs are."""
    return MappingProxyType({made.name: made for made in map(read, PACKS)})


def detector(name: str) -> Detector:
    """Raises KeyError."""
    return {each.name: each for pack in PACKS for each in pack.detectors}[name]
