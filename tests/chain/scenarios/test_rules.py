"""Tables and records: the next table is exact, and what is there stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.chain.scenarios import rules
from gongqi.chain.scenarios.rules import Record, Table
from gongqi.doors.cli import laboratory
from gongqi.kernel.errors import Refused

TABLE = Table(("record", "a", "b", "ill"), {"r-1": ("r-1", "1.0", "2.0", "0")})


def test_a_table_reads_back_as_it_was_written():
    assert rules.read_table(rules.write_table(TABLE)) == TABLE


@pytest.mark.parametrize(
    "data",
    [b"", b"a,b\n1,2\n", b"r,a,a,l\n", b"r,a,l\n1,2\n", b"r,a,l\n1,2,0\n1,3,0\n", b"r,a,l\n\xff,1,0\n", b'r,a,l\n"x'],
)
def test_what_is_no_table_is_refused(data):
    with pytest.raises(Refused, match=r"scenarios\.table-malformed"):
        rules.read_table(data)


names = st.text("abc123", min_size=1, max_size=3)
values = st.floats(allow_nan=False)
records = st.lists(
    st.builds(
        Record, st.uuids().map(str), names, st.fixed_dictionaries({"a": values}, optional={"b": values, "c": values}),
        st.integers(-1, 2),
    )
)  # fmt: skip


@given(records, st.randoms(use_true_random=False))
def test_every_record_is_added_or_set_aside_and_rows_that_are_there_stay(given_records, chance):
    extended = rules.extend(TABLE, given_records)
    aside = [id for ids in extended.set_aside.values() for id in ids]
    assert sorted([*extended.added, *aside]) == sorted(each.id for each in given_records)
    assert extended.table.rows["r-1"] == TABLE.rows["r-1"]
    assert len(extended.table.rows) == 1 + len(extended.added)
    assert rules.read_table(rules.write_table(extended.table)) == extended.table
    shuffled = chance.sample(given_records, len(given_records))
    assert rules.write_table(rules.extend(TABLE, shuffled).table) == rules.write_table(extended.table)


def test_returned_records_make_the_very_file_that_the_laboratory_expects(tmp_path):
    """The worked example: the hospital's first revision and all the outcomes, byte for byte."""
    laboratory.make_dataset(tmp_path / "first")
    batches = list(laboratory.outcomes())
    laboratory.extend_dataset(tmp_path / "second", tmp_path / "first" / "data.csv", batches)
    columns = laboratory.table().columns
    told = [
        Record(f"out_{record}", record, dict(zip(columns, features, strict=True)), label)
        for batch in batches
        for record, features, label in zip(batch.records, batch.features, batch.labels, strict=True)
    ]
    extended = rules.extend(rules.read_table((tmp_path / "first" / "data.csv").read_bytes()), told)
    assert rules.write_table(extended.table) == (tmp_path / "second" / "data.csv").read_bytes()
    assert len(extended.added) == len(told) and not extended.set_aside
