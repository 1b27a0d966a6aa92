"""Laws of tables: what is said to have changed is what a patient reader would find, whatever is in the rows."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.chain.standards import tables
from gongqi.kernel.blobs.folder import FolderBlobs

pytestmark = pytest.mark.heavy

VALUES = st.sampled_from(["", "a", "b", "1", "01", "1.0", '甲,"乙"', "x\ny", "NULL", " "])
KEYS = st.lists(st.integers(0, 9).map(str), unique=True, max_size=6)
ROWS = KEYS.flatmap(lambda keys: st.tuples(*(st.tuples(st.just(key), VALUES, VALUES) for key in keys)))
BAGS = st.lists(st.tuples(VALUES, VALUES), max_size=8)
FEW = settings(max_examples=25, deadline=None)  # each is a child process


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderBlobs]:
    yield FolderBlobs(Path(tmp_path_factory.mktemp("blobs")))


def compared(blobs: FolderBlobs, header: tuple[str, ...], before: Any, after: Any) -> dict[str, Any]:
    stored = []
    for rows in (before, after):
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([header, *rows])
        stored.append((blobs.put(text.getvalue().encode()).sha256, "csv"))
    return tables.compare(blobs, *stored)["rows"]


@FEW
@given(ROWS, ROWS)
def test_rows_with_a_key_are_added_removed_and_changed_as_one_would_count_them(blobs, before: Any, after: Any) -> None:
    found = compared(blobs, ("id", "x", "y"), before, after)
    old, new = ({key: rest for key, *rest in rows} for rows in (before, after))
    both = old.keys() & new.keys()
    assert found["key"] == "id"
    assert (found["added"], found["removed"]) == (len(new.keys() - old.keys()), len(old.keys() - new.keys()))
    assert found["changed"] == sum(old[key] != new[key] for key in both)
    expected = {name: sum(old[key][n] != new[key][n] for key in both) for n, name in enumerate("xy")}
    assert dict(found["by_column"]) == {name: count for name, count in expected.items() if count}


@FEW
@given(BAGS, BAGS)
def test_rows_without_a_key_are_a_bag(blobs, before: Any, after: Any) -> None:
    same = [("same", "same")] * 2  # so that neither column is a key
    found = compared(blobs, ("x", "y"), [*before, *same], [*after, *same])
    old, new = Counter(before), Counter(after)
    assert found["key"] is None
    assert (found["added"], found["removed"]) == ((new - old).total(), (old - new).total())
