"""The foundation's own policies: short, numbered articles, which the gates cite by number.

A policy is a file beside this one, in both languages, each article one paragraph. A foundation that runs this platform
edits them as it edits the figures: the list of rules cites them, so what is asked and why it is asked stay together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Article:
    number: int
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    zh: str
    en: str
    date: str
    articles: tuple[Article, ...]


@cache
def policies() -> Mapping[str, Policy]:
    """Every policy by its name, in the order of names. Raises TypeError or KeyError at a file that is none."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        content = tomllib.loads(path.read_text("utf-8"))
        articles = tuple(Article(**row) for row in content.pop("article"))
        found[path.stem] = Policy(path.stem, articles=articles, **content)
    return found
