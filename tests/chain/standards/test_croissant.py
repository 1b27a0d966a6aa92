"""A dataset's description: the official library accepts it and loads the records it speaks of; a donor's own is read."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import mlcroissant
import pyarrow
import pyarrow.parquet
import pytest

from gongqi.chain.standards import croissant, tables
from gongqi.chain.standards.croissant import Finding, compare
from gongqi.chain.standards.facts import FileOf
from gongqi.chain.standards.tables import Column, Table, read_tables
from gongqi.kernel.blobs.folder import FolderBlobs

CSV = 'id,姓 名,half,gap,day,ok\n1,甲,1.5,2,2020-01-01,true\n2,"乙,丙",3,,2021-02-03,false\n'.encode()
JSONL = b'{"id": 1, "said": "x", "nested": {"a": 1}}\n{"id": 2, "said": null}\n'


def parquet() -> bytes:
    content = io.BytesIO()
    columns = {"n": [1, 2], "t": ["x", "y"], "maybe": [1, None], "list": [[1], [2]], "share": [0.5, 1.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), content)
    return content.getvalue()


@pytest.fixture
def blobs(tmp_path: Any) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def columns(blobs: FolderBlobs, path: str, content: bytes) -> dict[str, str] | None:
    """The columns that are read of a file under this name, with their types."""
    stored = blobs.put(content)
    found = read_tables(blobs, [FileOf(path, stored.sha256, len(content), None, None, None)])
    return {each.name: each.type for each in found[0].columns} if found else None


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_the_columns_of_a_table_have_the_type_that_all_values_agree_on(blobs) -> None:
    types = {"id": "integer", "姓 名": "text", "half": "number", "gap": "number", "day": "date", "ok": "boolean"}
    assert columns(blobs, "a.csv", CSV) == types
    assert columns(blobs, "a.tsv", CSV.replace(b",", b"\t")) is not None
    assert columns(blobs, "a.jsonl", JSONL) == {"id": "integer", "said": "text"}
    found = columns(blobs, "a.parquet", parquet())
    assert found == {"n": "integer", "t": "text", "maybe": "number", "share": "number"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2.5"], "number"), (["1", "x"], "text"), (["007", "8"], "text"), (["1", ""], "number"),
        (["true", ""], "text"), (["2020-01-01", "soon"], "text"), (["", ""], "text"), (["1e3", "-2"], "number"),
        (["9" * 19], "number"), (["true", "1"], "text"),
    ],
)  # fmt: skip
def test_one_value_that_does_not_fit_widens_its_column(blobs, values: list[str], expected: str) -> None:
    content = "a,b\n" + "".join(f"{value},x\n" for value in values)
    found = columns(blobs, "a.csv", content.encode())
    assert found is not None and found["a"] == expected


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.csv", b""), ("a.csv", b"a,a\n1,2\n"), ("a.csv", b"a,\n1,2\n"), ("a.csv", b"a,b\n1\n"),
        ("a.csv", b"\xff\xfe\x00"), ("a.csv", b'a,b\n"1,2\n'), ("a.csv", b"a,b\n" + b"x" * (2 << 20) + b",1\n"),
        ("a.jsonl", b"[1]\n"), ("a.jsonl", b"{"), ("a.jsonl", b""), ("a.jsonl", b"[" * 100_000), ("a.jsonl", b'{"a":[1]}\n'),
        ("a.parquet", b"PAR1PAR1"), ("a.parquet", b"PAR1" + b"\xff" * 500 + b"PAR1"), ("a.parquet", b""),
        ("a.txt", b"a,b\n1,2\n"),
    ],
)  # fmt: skip
def test_what_is_no_table_has_no_columns(blobs, path: str, content: bytes) -> None:
    assert columns(blobs, path, content) is None


def test_of_a_file_beyond_the_bound_only_the_names_are_known(blobs, tmp_path) -> None:
    for path, head, line in (("a.csv", b"a,b\n", b"1,2\n"), ("a.jsonl", b"", b'{"a": 1, "b": 2}\n')):
        content = head + line * ((64 << 20) // len(line) + 1)
        stored = blobs.put(content)
        (table,) = read_tables(blobs, [FileOf(path, stored.sha256, len(content), None, None, None)])
        assert table == Table(path, (Column("a", "text"), Column("b", "text")), None)


def test_a_reader_that_is_stopped_leaves_a_file_without_columns(blobs, monkeypatch) -> None:
    large = b"a,b\n" + b"x" * 900_000 + b",1\n"
    assert columns(blobs, "a.csv", large) == {"a": "text", "b": "integer"}
    monkeypatch.setattr(tables, "MEMORY_BYTES", 1 << 20)
    assert columns(blobs, "a.csv", large) is None


# ---- written ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(market: Any, described: Any, served: str) -> Any:
    """`loaded(files)`: a dataset of these files, published, and then as the official library has it from the server."""

    def load(files: dict[str, bytes]) -> tuple[dict[str, Any], mlcroissant.Dataset]:
        asset = market.asset("hospital", "mixed", "dataset")
        brought = [market.bring("hospital", path, content, "datasets") for path, content in files.items()]
        release = market.release("hospital", asset, market.revision("hospital", asset, brought))
        described(release)
        address = f"{served}/api/v1/standards/release/{release}/croissant.json"
        dataset = mlcroissant.Dataset(jsonld=address)
        return json.loads(described(release)["croissant.json"]), dataset

    return load


def test_the_official_library_accepts_the_description_and_loads_its_records(loaded, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        said, dataset = loaded({"data.csv": CSV, "more/说 明.jsonl": JSONL, "p.parquet": parquet()})
    assert dataset.metadata.ctx.issues.report() == ""
    assert not [record for record in caplog.records if "@context" in record.getMessage()]
    assert said["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert [each["@id"] for each in said["recordSet"]] == ["data", "more-说-明", "p"]
    first, second = dataset.records("data")
    assert (first["data/id"], first["data/姓-名"].decode(), first["data/half"], first["data/ok"]) == (
        1,
        "甲",
        1.5,
        True,
    )
    assert (second["data/姓-名"].decode(), second["data/gap"]) == ("乙,丙", None)
    assert [row["more-说-明/id"] for row in dataset.records("more-说-明")] == [1, 2]
    assert [row["p/share"] for row in dataset.records("p")] == [0.5, 1.0]


def test_the_library_finds_a_file_that_was_changed_on_the_way(loaded, market) -> None:
    said, _ = loaded({"data.csv": CSV})
    for each in said["distribution"]:
        each["sha256"] = "0" * 64
    with pytest.raises(Exception) as refused:
        list(mlcroissant.Dataset(jsonld=said).records("data"))
    assert "is not identical with the reference" in str(refused.value.__cause__)


def test_ids_are_all_different_and_have_no_white_space() -> None:
    names = ["a b", "a\tb", "a-b", "a#b", "a-b-2", "a/b"]
    made = croissant._ids(names)
    assert len(set(made)) == len(names)
    assert not any(character in each for each in made for character in " \t#%?")


# ---- read ------------------------------------------------------------------------------------------------------------

FILES = [FileOf("data.csv", "a" * 64, 10, None, None, None), FileOf("说 明.csv", "b" * 64, 20, None, None, None)]
TABLES = [Table("data.csv", (Column("id", "integer"),), 2)]


def own(*objects: dict[str, Any], fields: tuple[dict[str, Any], ...] = ()) -> bytes:
    return json.dumps({"distribution": list(objects), "recordSet": [{"field": list(fields)}]}).encode()


def of(name: str, **more: Any) -> dict[str, Any]:
    return {"@type": "cr:FileObject", "@id": name, "contentUrl": name, **more}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (own(of("data.csv", sha256="A" * 64, contentSize="10 B"), of("./%E8%AF%B4%20%E6%98%8E.csv", sha256="b" * 64)), ()),
        (own(of("data.csv", sha256="b" * 64)), (Finding("changed", "data.csv"),)),
        (own(of("data.csv", contentSize="11 B")), (Finding("resized", "data.csv"),)),
        (own(of("gone.csv")), (Finding("absent", "gone.csv"),)),
        (own(of("https://example.org/far.csv")), ()),
        (own(of("in-zip.csv", containedIn={"@id": "a.zip"})), ()),
        (own(of("data.csv"), fields=(
            {"source": {"fileObject": {"@id": "data.csv"}, "extract": {"column": "id"}}},
            {"source": {"fileObject": {"@id": "data.csv"}, "extract": {"column": "ID"}}},
            {"source": {"fileSet": {"@id": "x"}}}, {"source": "x"}, {},
        )), (Finding("no-column", "data.csv", "ID"),)),
        (json.dumps({"distribution": of("gone.csv"), "recordSet": {}}).encode(), (Finding("absent", "gone.csv"),)),
        (b"{", (Finding("malformed", "croissant.json"),)),
        (b"[]", (Finding("malformed", "croissant.json"),)),
        (b'{"distribution": [1]}', (Finding("malformed", "croissant.json"),)),
    ],
)  # fmt: skip
def test_a_donors_description_is_compared_with_the_files(raw: bytes, expected: tuple[Finding, ...]) -> None:
    assert compare(raw, FILES, TABLES) == expected


def test_what_a_donors_description_gets_wrong_is_shown_with_the_release(market, described) -> None:
    asset = market.asset("hospital", "mixed", "dataset")
    files = {"data.csv": CSV, "croissant.json": own(of("data.csv", sha256="0" * 64))}
    brought = [market.bring("hospital", path, content, "datasets") for path, content in files.items()]
    release = market.release("hospital", asset, market.revision("hospital", asset, brought))
    found = json.loads(described(release)["findings.json"])
    assert found["croissant"] == [{"code": "changed", "path": "data.csv", "name": ""}]
