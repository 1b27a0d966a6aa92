"""A description that a donor brought along: read as their word, and held against the files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gongqi.chain.standards import donated
from gongqi.chain.standards.donated import Finding, differences, read, words_on
from gongqi.chain.standards.facts import FileOf

FILES = [FileOf("data.csv", "a" * 64, 10, None, None, None), FileOf("说 明.csv", "b" * 64, 20, None, None, None)]
COLUMNS = {"data.csv": {"id": "integer", "day": "date", "none": ""}}
WHOLE = {
    "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.1", "name": "records", "url": "https://example.org",
    "description": {"en": "Numbers", "zh": "数"}, "license": ["https://spdx.org/licenses/CC-BY-4.0", {"name": "Own terms"}],
    "creator": [{"@type": "sc:Organization", "name": "Hospital A"}, {"name": "Clinic B"}], "citeAs": "A. and B.",
    "rai:dataCollection": "measured by hand", "rai:dataBiases": ["few", "old"], "rai:empty": "",
}  # fmt: skip


def described(*objects: dict[str, Any], fields: tuple[Any, ...] = (), **more: Any) -> bytes:
    return json.dumps(WHOLE | {"distribution": list(objects), "recordSet": [{"field": list(fields)}]} | more).encode()


def of(name: str, **more: Any) -> dict[str, Any]:
    given = {"@type": "cr:FileObject", "@id": name, "contentUrl": name, "encodingFormat": "text/csv", "md5": "0" * 32}
    return given | more


def column(name: str, kind: str = "sc:Text", source: str = "data.csv", **more: Any) -> dict[str, Any]:
    where = {"fileObject": {"@id": source}, "extract": {"column": name}}
    return {"@id": f"r/{name}", "dataType": kind, "source": where} | more


def found(raw: bytes) -> tuple[Finding, ...]:
    return differences("croissant.json", read(raw), FILES, COLUMNS)


def test_what_it_says_is_kept_in_the_donors_words() -> None:
    said = read(described(of("data.csv"), fields=(column("id", "sc:Integer", description="the record"),)))
    assert (said["version"], said["name"], said["description"], said["cite"]) == (
        "1.1",
        "records",
        "Numbers",
        "A. and B.",
    )
    assert said["license"] == ["https://spdx.org/licenses/CC-BY-4.0", "Own terms"]
    assert said["creators"] == ["Hospital A", "Clinic B"]
    assert said["rai"] == [["dataCollection", "measured by hand"], ["dataBiases", "few; old"]]
    assert words_on(said, "data.csv", {}) == {"id": {"description": "the record", "type": "integer"}}
    assert words_on(said, "other.csv", {}) == {}
    assert said["flaws"] == []


def test_both_versions_are_read_and_another_is_named() -> None:
    for version in ("1.0", "1.1"):
        assert found(described(of("data.csv"), conformsTo=f"http://mlcommons.org/croissant/{version}")) == ()
    assert found(described(conformsTo="http://mlcommons.org/croissant/7")) == (
        Finding("version", "croissant.json", "7"),
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (described(of("data.csv", sha256="A" * 64, contentSize="10 B"), of("./%E8%AF%B4%20%E6%98%8E.csv")), ()),
        (described(of("data.csv", sha256="b" * 64)), [("changed", "data.csv")]),
        (described(of("data.csv", contentSize="11 B")), [("resized", "data.csv")]),
        (described(of("gone.csv")), [("absent", "gone.csv")]),
        (described(of("https://example.org/far.csv")), ()),
        (described(of("in-zip.csv", containedIn={"@id": "a.zip"}, md5="")), ()),
        (described(of("data.csv", md5="")), [("lacks", "croissant.json", "data.csv: sha256")]),
        (described(of("data.csv", encodingFormat=None)), [("lacks", "croissant.json", "data.csv: encodingFormat")]),
        (described(name="", license=None), [("lacks", "croissant.json", "name"), ("lacks", "croissant.json", "license")]),
        (described(of("data.csv"), fields=(
            column("id", "sc:Integer"), column("ID"), {"source": {"fileSet": {"@id": "x"}}, "dataType": "sc:Text"},
            {"source": "x", "dataType": "sc:Text"}, {"subField": []},
        )), [("lacks", "croissant.json", ": dataType"), ("no-column", "data.csv", "ID")]),
        (described(of("data.csv"), fields=(column("id", source="nowhere"),)), [("no-object", "croissant.json", "nowhere")]),
        (described(of("data.csv"), fields=(
            column("id", "cr:Int64"), column("id", "cr:Float32"), column("id", "sc:Text"), column("day", "sc:DateTime"),
            column("none", "sc:Boolean"), column("id", "cr:BoundingBox"), column("id", ["sc:Date", "wd:Q1"]),
            column("day", "sc:Integer"),
        )), [("retyped", "data.csv", "id"), ("retyped", "data.csv", "day")]),
        (described(distribution=of("gone.csv"), recordSet={}), [("absent", "gone.csv")]),
        (described(distribution=[1]), [("malformed", "croissant.json")]),
        (b"{", [("malformed", "croissant.json")]),
        (b"[" * 100_000, [("malformed", "croissant.json")]),
        (b"[]", [("no-description", "croissant.json")]),
        (b'{"name": "x"}', [("no-description", "croissant.json")]),
    ],
)  # fmt: skip
def test_it_is_held_against_its_own_form_and_the_files(raw: bytes, expected: Any) -> None:
    assert [(each.code, each.path, each.name) for each in found(raw)] == [(*each, "")[:3] for each in expected]


def test_a_set_of_files_stands_for_the_tables_that_fit_its_pattern() -> None:
    repository = {
        "@type": "cr:FileObject",
        "@id": "repo",
        "contentUrl": "https://example.org/x",
        "encodingFormat": "git+https",
    }
    shards = {"@type": "cr:FileSet", "@id": "shards", "encodingFormat": "application/x-parquet", "includes": "*.csv"}
    field = {"dataType": "sc:Text", "source": {"fileSet": {"@id": "shards"}, "extract": {"column": "no"}}}
    inside = described(repository, shards | {"containedIn": {"@id": "repo"}}, fields=(field,))
    assert [each.code for each in found(inside)] == ["no-column"]
    packed = described(of("a.zip"), shards | {"containedIn": {"@id": "a.zip"}}, fields=(field,))
    assert [each.code for each in found(packed)] == ["absent"], "what lies in an archive is not ours to judge"


def test_everything_that_is_kept_is_bounded() -> None:
    large = described(
        *(of(f"f{n}.csv" + "x" * 3000) for n in range(200)), description="d" * 10_000,
        fields=tuple(column("c" * 500, description="w" * 5000) for _ in range(50)), **{f"rai:{n}": "y" for n in range(99)},
    )  # fmt: skip
    said = read(large)
    assert len(said["description"]) == donated.MAX_TEXT and len(said["rai"]) == donated.MAX_RAI
    assert max(len(each["path"]) for each in said["objects"]) <= 1024 and len(found(large)) == donated.MAX_FLAWS
