"""A dataset's description: the official library accepts it and loads the records it speaks of."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import mlcroissant
import pyarrow
import pyarrow.parquet
import pytest

from gongqi.chain.standards import croissant

CSV = 'id,姓 名,half,gap,day,ok\n1,甲,1.5,2,2020-01-01,true\n2,"乙,丙",3,,2021-02-03,false\n'.encode()
JSONL = b'{"id": 1, "said": "x", "nested": {"a": 1}}\n{"id": 2, "said": null}\n'


def parquet() -> bytes:
    content = io.BytesIO()
    columns = {"n": [1, 2], "t": ["x", "y"], "maybe": [1, None], "list": [[1], [2]], "share": [0.5, 1.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), content)
    return content.getvalue()


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


@pytest.mark.heavy
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
