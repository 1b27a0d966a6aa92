"""What changed between two revisions is told whole, in bounds, to whoever may see both."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.kernel.errors import Refused
from gongqi.resources.hub import changes, service
from gongqi.resources.hub.changes import FileState, file_changes, text_changes


def card(text: str, **fields: str) -> bytes:
    return ("---\n" + "".join(f"{name}: {value}\n" for name, value in fields.items()) + f"---\n{text}\n").encode()


def compare(hub: Any, before: Any, after: Any, actor: Any = None) -> Any:
    return hub.ask(service.compare_revisions, actor or hub.stranger, before=before.id, after=after.id)


def test_every_way_in_which_a_file_changes_has_its_own_word(hub) -> None:
    asset = hub.asset()
    hub.card = card("# One\n\nold line\nkept\n", license="CC-BY-4.0", title="{zh: 一, en: One}")
    same, old, gone, named, label = (
        hub.bring(asset.org, name, name.encode())
        for name in ("same.txt", "data.txt", "gone.txt", "named.txt", "label.txt")
    )
    first = hub.revision(asset, [same, old, gone, named, label])
    source = hub.revision(hub.asset(hub.laboratory, slug="source"))
    new = hub.bring(asset.org, "data.txt", b"other")
    moved = hub.bring(asset.org, "moved.txt", b"named.txt")
    hub.card = card("# One\n\nnew line\nkept\n", license="MIT", title="{zh: 一, en: First}")
    label |= {"component": "datasets", "license": "MIT"}
    second = hub.revision(
        asset, [same, new, moved, hub.bring(asset.org, "more.txt", b"more"), label],
        lineage=[{"revision": source.id, "relation": "trained-on"}],
    )  # fmt: skip
    found = compare(hub, first, second)
    assert {(each.how, (each.after or each.before).path) for each in found.files} == {
        ("changed", "README.md"), ("changed", "data.txt"), ("removed", "gone.txt"), ("relabelled", "label.txt"),
        ("added", "more.txt"), ("renamed", "moved.txt"),
    }  # fmt: skip
    renamed = next(each for each in found.files if each.how == "renamed")
    assert renamed.before.path == "named.txt" and renamed.before.sha256 == renamed.after.sha256
    assert (
        found.counts == {"added": 1, "removed": 1, "changed": 2, "renamed": 1, "relabelled": 1} and found.unchanged == 1
    )
    assert [(each.field, each.before, each.after) for each in found.card] == [
        ("license", "CC-BY-4.0", "MIT"), ("title.en", "One", "First"),
    ]  # fmt: skip
    assert "-old line" in found.text and "+new line" in found.text and " kept" in found.text and found.is_text_whole
    assert [(each.revision, each.relation) for each in found.sources_added] == [(source.id, "trained-on")]
    assert found.after.parent == first.id and found.before.parent is None
    back = compare(hub, second, first)
    assert back.counts["added"] == 1 and back.sources_removed == found.sources_added


def test_nothing_changed_is_said_as_such(hub) -> None:
    one = hub.revision(hub.asset())
    found = compare(hub, one, one)
    assert (found.files, found.card, found.text, found.unchanged, found.is_text_whole) == ([], [], [], 1, True)


def test_only_two_revisions_of_one_asset_that_the_reader_sees_are_compared(hub) -> None:
    one, other = hub.revision(hub.asset()), hub.revision(hub.asset(slug="other"))
    with pytest.raises(Refused, match=r"hub\.revisions-apart"):
        compare(hub, one, other)
    secret = hub.revision(hub.asset(slug="secret", visibility="private"))
    for pair in ((secret, secret), (one, secret), (secret, one)):
        with pytest.raises(Refused, match=r"access\.not-found"):
            compare(hub, *pair)
    assert compare(hub, secret, secret, hub.donor).files == []


def test_a_long_card_is_compared_in_part_and_that_is_said() -> None:
    one = "\n".join(f"{n % 7} some words that come again" for n in range(5000))
    other = one.replace("3 some", "3 other")
    began = time.process_time()
    lines, is_whole = text_changes(one, other)
    assert len(lines) == changes.DIFF_LINES and not is_whole
    assert text_changes("x" * 2000, "x" * 3000)[1] is False
    assert time.process_time() - began < 5


NAMES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("1234"), max_size=6)


@given(NAMES, NAMES)
def test_the_changes_lead_from_one_revision_to_the_other(before: dict[str, str], after: dict[str, str]) -> None:
    """Undone one by one, what is listed gives back the first; and no file is counted twice or not at all."""
    old, new = (
        [FileState(path=path, sha256=digest, size=1, component=None, license=None) for path, digest in files.items()]
        for files in (before, after)
    )
    found, unchanged = file_changes(old, new)
    state = dict(after)
    for each in found:
        if each.after:
            del state[each.after.path]
    state |= {each.before.path: each.before.sha256 for each in found if each.before}
    assert state == before
    assert unchanged == sum(after.get(path) == digest for path, digest in before.items())
    assert all(each.before.sha256 == each.after.sha256 for each in found if each.how == "renamed")
