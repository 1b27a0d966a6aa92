"""Laws of the search, for which the machine looks for counter-examples.

1. A search shows exactly the assets that the reader may see and whose text bears every word, as somebody would say who
   reads all texts one by one: for any texts, any words, any reader, and however the pages are cut.
2. What comes first bears the words nearer to its name; what bears them equally near comes newest first.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gongqi.books.evidence import service as evidence
from gongqi.kernel.access import ANONYMOUS, FOUNDATION, Actor
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, execute, query
from gongqi.members import VOCABULARY
from gongqi.resources.hub import service
from gongqi.resources.hub.room import ROOM as HUB

LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ORGS = ("org_a", "org_b")
OPERATOR = Actor("per_operator", "person", "operator", grants={FOUNDATION: frozenset({"*"})})
READERS = (
    ANONYMOUS,
    *(Actor(f"per_{org}", "person", org, grants={org: frozenset({"hub:*"})}) for org in ORGS),
    OPERATOR,
)
NUMBERS = itertools.count()

PIECE = st.sampled_from(
    ["乳", "腺", "癌", "诊", "断", "か", "Ab", "ab", "abc", "B", "Ａ", "7", "é", " ", "-", "_", '"', "*", "'", ":"]
)
TEXT = st.lists(PIECE, min_size=1, max_size=8).map("".join)
ASSET = st.tuples(st.sampled_from(ORGS), st.sampled_from(["private", "members", "public"]), TEXT, TEXT)


@pytest.fixture
def kernel(build: Callable[..., Kernel]) -> Kernel:
    return build(House.build((HUB,), VOCABULARY), record=evidence.append)


def bears(text: str, words: str) -> bool:
    """Whether `text` has every run of letters in `words`: Han and kana anywhere, others from the beginning of a word."""
    text, words = (unicodedata.normalize("NFKC", each).casefold() for each in (text, words))
    for word in re.findall(r"[\u3040-\u9fff]+|[0-9a-zé]+", words):
        if word[0] >= "\u3040":
            found = word in text
        else:
            end = "" if len(word) > 2 else r"(?![0-9a-zé])"
            found = re.search(rf"(?<![0-9a-zé]){re.escape(word)}{end}", text) is not None
        if not found:
            return False
    return True


def may_see(reader: Actor, org: str, visibility: str) -> bool:
    return visibility == "public" or (visibility == "members" and not reader.is_anonymous) or reader.may("hub:x:y", org)


@LAW
@given(st.lists(ASSET, min_size=1, max_size=4), TEXT, st.integers(1, 5))
def test_a_search_finds_what_one_who_reads_everything_would(
    kernel: Kernel, assets: list[tuple[str, str, str, str]], words: str, limit: int
) -> None:
    told: list[tuple[str, str, str, str, str]] = kernel.parts.setdefault(Told, Told())
    for org, visibility, title, summary in assets:
        values = {"org": org, "kind": "code", "visibility": visibility, "slug": f"s{next(NUMBERS)}"}
        given_words = {"title_zh": title, "title_en": title, "summary_zh": summary}
        made = execute(kernel, service.create, Caller(OPERATOR), service.CreateAsset(**values, **given_words))
        told.insert(0, (made.id, org, visibility, title, summary))
    asked = {} if any(map(str.isalnum, words)) else {"kind": "dataset"}  # no word is nothing, or everything
    for reader in READERS:
        seen = [] if asked else [each for each in told if may_see(reader, each[1], each[2])]
        near = [id for id, _, _, title, _ in seen if bears(title, words)]
        far = [id for id, _, _, title, summary in seen if id not in near and bears(f"{title} {summary}", words)]
        assert pages(kernel, reader, limit, q=words, **asked) == near + far


class Told(list):
    """What has been said of the assets of one kernel, newest first."""


def pages(kernel: Kernel, reader: Actor, limit: int, **asked: Any) -> list[str]:
    found, cursor = [], None
    while True:
        input = service.SearchAssets(limit=limit, cursor=cursor, **asked)
        page = query(kernel, service.search_assets, Caller(reader), input)
        found += [asset.id for asset in page.items]
        if (cursor := page.next) is None:
            return found
