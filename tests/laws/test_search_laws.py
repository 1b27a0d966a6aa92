"""Laws of the search, for which the machine looks for counter-examples.

1. A search shows exactly the assets that the reader may see and whose text bears every word, as somebody would say who
   reads all texts one by one: for any texts, any words, any reader, and however the pages are cut.
2. What comes first bears the words nearer to its name; what bears them equally near comes newest first.

The one who reads knows only letters and regular expressions: no terms, no pairs, no index.
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
from gongqi.resources.hub.inspection import Inspected
from gongqi.resources.hub.room import ROOM as HUB

pytestmark = pytest.mark.heavy

LAW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ORGS = ("org_a", "org_b")
OPERATOR = Actor("per_operator", "person", "operator", grants={FOUNDATION: frozenset({"*"})})
READERS = (
    ANONYMOUS,
    *(Actor(f"per_{org}", "person", org, grants={org: frozenset({"hub:*"})}) for org in ORGS),
    OPERATOR,
)
NUMBERS = itertools.count()
HAN = "\u3040"  # with kana, which begin here

PIECE = st.sampled_from(
    ["乳", "腺", "癌", "诊", "断", "か", "Ab", "ab", "abc", "B", "Ａ", "7", "é", " ", "-", "_", '"', "*", "'", ":"]
)
TEXT = st.lists(PIECE, min_size=1, max_size=8).map("".join)
ASSET = st.tuples(st.sampled_from(ORGS), st.sampled_from(["private", "members", "public"]), TEXT, TEXT, TEXT)


@pytest.fixture
def kernel(build: Callable[..., Kernel]) -> Kernel:
    return build(House.build((HUB,), VOCABULARY), record=evidence.append)


def bears(text: str, words: str) -> bool:
    """Whether `text` has every run of letters in `words`: Han and kana anywhere, others from the beginning of a word."""
    return all(has(text, word) for word in runs(words))


def bears_in_card(about: str, card: str, words: str) -> bool:
    """In a card a single character of Han is not looked for, and other words are whole."""
    return all(
        has(about, word) or ((len(word) > 1 or word < HAN) and has(card, word, whole=True)) for word in runs(words)
    )


def runs(text: str) -> list[str]:
    return re.findall(r"[\u3040-\u9fff]+|[0-9a-zé]+", folded(text))


def has(text: str, word: str, *, whole: bool = False) -> bool:
    if word >= HAN:
        return word in folded(text)
    end = r"(?![0-9a-zé])" if whole or len(word) < 3 else ""
    return re.search(rf"(?<![0-9a-zé]){re.escape(word)}{end}", folded(text)) is not None


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def may_see(reader: Actor, org: str, visibility: str) -> bool:
    return visibility == "public" or (visibility == "members" and not reader.is_anonymous) or reader.may("hub:x:y", org)


@LAW
@given(st.lists(ASSET, min_size=1, max_size=4), TEXT, st.integers(1, 5))
def test_a_search_finds_what_one_who_reads_everything_would(
    kernel: Kernel, assets: list[tuple[str, str, str, str, str]], words: str, limit: int
) -> None:
    told = kernel.parts.setdefault(Told, Told())
    for org, visibility, title, summary, card in assets:
        told.insert(0, (created(kernel, org, visibility, title, summary, card), org, visibility, title, summary, card))
    asked = {} if runs(words) else {"kind": "dataset"}  # no word is nothing, or everything
    for reader in READERS:
        seen = [] if asked else [each for each in told if may_see(reader, each[1], each[2])]
        places: list[list[str]] = [[], [], []]
        for id, _, _, title, summary, card in seen:
            about = f"{title}\n{summary}"
            if bears(title, words):
                places[0].append(id)
            elif bears(about, words):
                places[1].append(id)
            elif bears_in_card(about, f"{about}\n{card}", words):
                places[2].append(id)
        assert pages(kernel, reader, limit, q=words, **asked) == places[0] + places[1] + places[2]


def created(kernel: Kernel, org: str, visibility: str, title: str, summary: str, card: str) -> str:
    """The id of an asset that says this of itself."""
    given_words = {"title_zh": title, "title_en": title, "summary_zh": summary}
    input = service.CreateAsset(org=org, kind="code", visibility=visibility, slug=f"s{next(NUMBERS)}", **given_words)
    asset = execute(kernel, service.create, Caller(OPERATOR), input)
    content = card.encode()
    digest = kernel.blobs.put(content).sha256
    seen = Inspected("README.md", len(content), (), ())
    kernel.transact(lambda ctx: service.receive_blob(ctx, org=org, sha256=digest, inspected=seen), reason="test")
    files = [service.FileInput(path="README.md", sha256=digest)]
    execute(kernel, service.commit, Caller(OPERATOR), service.Commit(asset=asset.id, message="m", files=files))
    return asset.id


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
