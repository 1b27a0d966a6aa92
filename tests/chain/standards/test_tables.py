"""Tables are read as what they are, in children that meet hostile ones, and never beyond their bounds."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from gongqi.chain.standards import tables
from gongqi.chain.standards.claims import claimed
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.sandbox import Outcome

CSV = 'id,姓 名,half,gap,day,ok\n1,甲,1.5,2,2020-01-01,true\n2,"乙,丙",3,,2021-02-03,false\n'.encode()
JSONL = b'{"id": 1, "said": "x", "nested": {"a": 1}}\n{"id": 2, "said": null, "a/b~\\"\'": 5}\n'
NONE, MUCH = {"flaw": "no-table"}, {"flaw": "too-much"}


def parquet(**columns: Any) -> bytes:
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), content)
    return content.getvalue()


@pytest.fixture(scope="module")
def describe(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bytes], dict[str, Any]]:
    blobs = FolderBlobs(tmp_path_factory.mktemp("blobs"))

    def read(path: str, content: bytes) -> dict[str, Any]:
        form = tables.form_of(path)
        assert form is not None
        return tables.describe(blobs, blobs.put(content).sha256, form)

    return read


def types(found: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["type"] for each in found["columns"]}


@pytest.mark.heavy
def test_the_columns_of_a_table_have_the_type_that_all_values_agree_on(describe) -> None:
    expected = {"id": "integer", "姓 名": "text", "half": "number", "gap": "integer", "day": "date", "ok": "boolean"}
    for path, content in (
        ("a.csv", CSV), ("a.TSV", CSV.replace(b",", b"\t")), ("a.csv.gz", gzip.compress(CSV, mtime=0)),
        ("b.csv", CSV.replace("乙,丙".encode(), b"x").replace(b",", b";")), ("c.csv", b"\xef\xbb\xbf" + CSV),
        ("d.csv", CSV.replace(b"\n", b"\r\n")),
    ):  # fmt: skip
        assert types(describe(path, content)) == expected, path
    assert types(describe("a.jsonl", JSONL)) == {
        "id": "integer",
        "said": "text",
        "nested": "nested",
        "a/b~\"'": "integer",
    }
    columns: dict[str, Any] = {
        "n": [1, 2], "t": ["x", "y"], "list": [[1], [2]], "share": [0.5, None], "bytes": [b"\x00", b"y"],
        "price": [Decimal("1.20"), Decimal("3.00")], "day": [date(2020, 1, 1), None], "ok": [True, False],
    }  # fmt: skip
    assert types(describe("a.parquet", parquet(**columns))) == {
        "n": "integer", "t": "text", "list": "nested", "share": "number", "bytes": "nested", "price": "decimal",
        "day": "date", "ok": "boolean",
    }  # fmt: skip


def test_one_value_that_does_not_fit_widens_its_column(describe) -> None:
    columns = {
        "number": ["1", "2.5"], "mixed": ["1", "x"], "padded": ["007", "8"], "negative": ["-1", "2"], "sure": ["true", ""],
        "soon": ["2020-01-01", "soon"], "none": ["", ""], "power": ["1e3", "-2"], "long": ["9" * 19, "1"],
        "logic": ["true", "1"], "no-day": ["2021-02-29", "2021-02-28"],
        "moment": ["2020-01-01T10:00:00Z", "2020-01-02 11:00"],
    }  # fmt: skip
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    assert types(describe("a.csv", "\n".join(lines).encode())) == {
        "number": "number", "mixed": "text", "padded": "text", "negative": "integer", "sure": "boolean", "soon": "text",
        "none": "text", "power": "number", "long": "number", "logic": "text", "no-day": "text", "moment": "datetime",
    }  # fmt: skip
    mixed = b'{"a": "1", "b": 1, "c": 1}\n{"a": "2", "b": "x", "c": 1.5}\n'
    assert types(describe("a.jsonl", mixed)) == {"a": "text", "b": "mixed", "c": "number"}


def test_the_figures_are_those_of_the_values(describe) -> None:
    rows = "".join(f"{n},{n / 4},{'abc'[n % 3]},2020-01-{n + 1:02d}\n" for n in range(20))
    content = "n,x,letter,day,gap\n" + rows.replace("\n", ",\n")
    n, x, letter, day, gap = describe("a.csv", content.encode())["columns"]
    assert (n["count"], n["nulls"], n["distinct"], n["minimum"], n["maximum"], n["mean"]) == (20, 0, 20, 0, 19, 9.5)
    assert n["quartiles"] == [4.75, 9.5, 14.25] and n["bins"] == [[step, step, 1] for step in range(20)]
    assert (x["minimum"], x["maximum"]) == (0.0, 4.75) and sum(count for _, _, count in x["bins"]) == 20
    assert x["bins"][0][0] == 0.0 and x["bins"][-1][1] == pytest.approx(4.75) and len(x["bins"]) == 20
    assert letter["top"] == [["a", 7], ["b", 7], ["c", 6]]
    assert (day["minimum"], day["maximum"]) == ("2020-01-01", "2020-01-20")
    assert (gap["count"], gap["nulls"], gap["type"]) == (0, 20, "text")


def test_numbers_that_are_none_and_numbers_beyond_all_others_are_survived(describe) -> None:
    large = describe("a.csv", b"a,b\n1e308,1e999\n-1e308,1\n1e308,2\n")["columns"]
    assert [each["type"] for each in large] == ["number", "number"]
    assert large[1]["maximum"] == 2.0, "what is infinite is no figure"
    floats = parquet(a=[float("nan"), float("inf"), 1.0], b=[float("nan")] * 3)
    a, b = describe("a.parquet", floats)["columns"]
    assert (a["minimum"], a["maximum"]) == (1.0, 1.0) and "minimum" not in b
    assert json.dumps(describe("a.parquet", floats), allow_nan=False)


def test_the_first_rows_are_shown_and_cut(describe) -> None:
    found = describe("a.csv", b"a,b\n" + b"x" * 300 + b",\n" + b"y,z\n" * 30)
    assert len(found["head"]) == 20 and found["head"][0] == ["x" * 201, None] and found["rows"] == 31
    wide = ",".join(f"c{n}" for n in range(300))
    found = describe("a.csv", (wide + "\n" + wide + "\n").encode())
    assert len(found["head"][0]) == 50 and len(found["columns"]) == 300
    assert "count" in found["columns"][199] and "count" not in found["columns"][200]
    assert found["columns"][299]["type"] == "text"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.csv", b""), ("a.csv", b"a,a\n1,2\n"), ("a.csv", b"a,\n1,2\n"), ("a.csv", b"a,b\n1\n"),
        ("a.csv", b"a,b\n1,2,3\n"),
        ("a.csv", b"\xff\xfe\x00"), ("a.csv", b"a,b\n\xe4\xb9,2\n"), ("a.csv", b'a,b\n"1,2\n'), ("a.csv.gz", CSV),
        ("a.csv", b"a,b\n" + b"x" * (2 << 20) + b",1\n"), ("a.csv", b",".join(b"c%d" % n for n in range(2001)) + b"\n"),
        ("a.csv.gz", gzip.compress(CSV, mtime=0)[:-20]), ("a.jsonl", b"[1]\n"), ("a.jsonl", b"{"), ("a.jsonl", b""),
        ("a.jsonl", b"[" * 100_000), ("a.jsonl", b'{"a": 1}\nnull\n'), ("a.parquet", b"PAR1PAR1"),
        ("a.parquet", b"PAR1" + b"\xff" * 500 + b"PAR1"), ("a.parquet", b""), ("a.parquet", CSV), ("a.csv", parquet(a=[1])),
    ],
)  # fmt: skip
def test_what_is_no_table_is_said_to_be_none(describe, path: str, content: bytes) -> None:
    assert describe(path, content) == NONE


def test_a_name_never_becomes_a_question_to_the_database(describe) -> None:
    evil = ["'); DROP TABLE before; --", "\"x\" FROM read_csv('/etc/passwd')", "c1", "/dev/fd/3", "$.a", "~0/~1"]
    header = ",".join('"' + name.replace('"', '""') + '"' for name in evil)
    assert list(types(describe("a.csv", f"{header}\n1,2,3,4,5,6\n".encode()))) == evil
    row = json.dumps({name: number for number, name in enumerate(evil)})
    found = describe("a.jsonl", row.encode())
    assert found["head"] == [["0", "1", "2", "3", "4", "5"]] and list(types(found)) == evil
    assert list(types(describe("a.parquet", parquet(**{name: [1] for name in evil})))) == evil


def test_a_nul_in_a_cell_is_left_out_because_no_database_holds_it(describe) -> None:
    assert describe("a.parquet", parquet(a=["x\0y"]))["head"] == [["xy"]]


def test_of_a_long_table_the_first_rows_stand_for_the_rest_and_that_is_said(describe, monkeypatch) -> None:
    monkeypatch.setattr(tables, "ALL_CELLS", 200)
    lines = b"1,2\n" * 300
    found = describe("a.csv", b"a,b\n" + lines)
    assert (found["is_whole"], found["read"], found["rows"]) == (False, 100, None)
    assert claimed("a.csv", "csv", found).columns[0].type == "text", "what was not read to its end is claimed as text"
    found = describe("a.parquet", parquet(a=list(range(300)), b=["x"] * 300))
    assert (found["is_whole"], found["read"], found["rows"]) == (False, 100, 300)
    assert claimed("a.parquet", "parquet", found).columns[0].type == "number", "it may have gaps further on"
    assert describe("b.csv", b"a,b\n" + b"1,2\n" * 100)["is_whole"]
    monkeypatch.setattr(tables, "WHOLE_BYTES", 100)
    monkeypatch.setattr(tables, "FIRST_CELLS", 20)
    assert describe("a.csv", b"a,b\n" + lines)["read"] == 10


def test_a_bomb_is_known_by_its_beginning(describe, monkeypatch) -> None:
    monkeypatch.setattr(tables, "ALL_CELLS", 20_000)
    found = describe("a.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * (8 << 20), 1))
    assert (found["read"], found["is_whole"], found["rows"]) == (10_000, False, None)


def test_a_reader_that_is_stopped_reads_less_and_then_gives_up(describe, monkeypatch) -> None:
    asked: list[int] = []
    real = tables.CHILD.ask

    def ask(request: dict[str, Any], *files: Any, **more: Any) -> Outcome:
        asked.append(request["cells"])
        return Outcome("time") if len(asked) == 1 else real(request, *files, **more)

    monkeypatch.setattr(tables.CHILD, "ask", ask)
    assert describe("a.csv", CSV)["rows"] == 2 and asked == [tables.ALL_CELLS, tables.FIRST_CELLS]
    monkeypatch.undo()
    monkeypatch.setattr(tables, "MEMORY_BYTES", 1 << 20)
    assert describe("a.csv", CSV) == MUCH


def test_a_machine_that_is_too_busy_says_so_rather_than_judging_the_file(describe, monkeypatch) -> None:
    monkeypatch.setattr(tables, "WAIT_SECONDS", 0)
    with pytest.raises(Unavailable, match=r"standards\.tables-late"):
        describe("a.csv", CSV)


def test_a_child_that_reads_tables_reaches_no_other_file(tmp_path: Path) -> None:
    """Even when DuckDB is asked to: its own bars hold, and the sandbox's behind them."""
    spy = tmp_path / "spy.py"
    spy.write_text(
        "import duckdb\n"
        "from gongqi.chain.standards.tables.loading import DB, confine\n"
        "def serve(request, *files):\n"
        "    confine(files)\n"
        "    said = []\n"
        "    for query in request['queries']:\n"
        "        try:\n"
        "            said.append(repr(DB.execute(query.replace('OWN', f'/dev/fd/{files[0].fileno()}')).fetchall()))\n"
        "        except duckdb.Error as error:\n"
        "            said.append(type(error).__name__)\n"
        "    return said\n"
    )
    secret, own = tmp_path / "secret.csv", tmp_path / "own.csv"
    secret.write_text("a\nhidden\n")
    own.write_text("a\nmine\n")
    spawner = tables.Spawner(spy)
    queries = [
        "SELECT * FROM read_csv('OWN', auto_detect=false, columns={'a': 'VARCHAR'}, header=true)",
        f"SELECT * FROM read_csv('{secret}')", f"COPY (SELECT 1) TO '{tmp_path}/written'", "INSTALL httpfs", "LOAD httpfs",
        "SET enable_external_access = true", f"ATTACH '{tmp_path}/other.db'", "SELECT * FROM read_csv('http://127.0.0.1/')",
    ]  # fmt: skip
    with own.open("rb") as file:
        said = spawner.ask(
            {"queries": queries}, file, bounds=tables.Bounds(20, tables.MEMORY_BYTES, 0), wait_seconds=30
        ).answer
    spawner.close()
    assert said[0] == "[('mine',)]"
    assert all(each.endswith("Exception") for each in said[1:]), said
    assert not (tmp_path / "written").exists()


def test_nothing_is_claimed_that_a_reader_would_not_find(describe) -> None:
    table = claimed("a.csv", "csv", describe("a.csv", CSV))
    assert table is not None and {each.name: each.type for each in table.columns} == {
        "id": "integer", "姓 名": "text", "half": "number", "gap": "number", "day": "date", "ok": "boolean",
    }  # fmt: skip
    table = claimed("a.jsonl", "jsonl", describe("a.jsonl", JSONL))
    assert table is not None and {each.name: each.type for each in table.columns} == {
        "id": "integer", "said": "text", "a/b~\"'": "number",
    }  # fmt: skip
    assert claimed("a.csv", "csv", describe("a.csv", b"a;b\n1;2\n")) is None, "whose readers divide by commas"
    assert claimed("a.csv", "csv", NONE) is None
    assert claimed("a.jsonl", "jsonl", describe("a.jsonl", b'{"a": [1]}\n')) is None
