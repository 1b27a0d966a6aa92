"""Bills of materials are what the makers of their forms accept, and say what is known and no more."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyshacl
import pytest
import rdflib
import rfc8785
from spdx_python_model import v3_0_1 as spdx_model

from gongqi.chain.standards import mlbom, spdx

SHAPES = Path(__file__).with_name("shapes")
KINDS = ("model", "dataset", "code", "agent", "tool")


@pytest.fixture
def facts(request: pytest.FixtureRequest) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("gongqi_release_facts", Path(__file__).with_name("facts.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.facts


def wrong_with(bom: dict[str, Any]) -> Any:
    # Here, because the grammar of addresses that it builds takes two seconds, wherever this file is only collected.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_7).validate_str(json.dumps(bom))


@cache
def shapes() -> tuple[rdflib.Graph, Any]:
    context = json.loads((SHAPES / "spdx-context-3.0.1.jsonld").read_text("utf-8"))["@context"]
    return rdflib.Graph().parse(SHAPES / "spdx-model-3.0.1.ttl"), context


def conforms(document: dict[str, Any]) -> tuple[bool, str]:
    """Whether the shapes of SPDX hold, and what they say."""
    model, context = shapes()
    read = rdflib.Graph().parse(data=json.dumps({**document, "@context": context}), format="json-ld")
    holds, _, said = pyshacl.validate(read, shacl_graph=model, ont_graph=model)
    return bool(holds), str(said)


# ---- CycloneDX -------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_a_bill_of_every_kind_of_asset_is_valid_cyclonedx(facts, kind: str) -> None:
    assert wrong_with(mlbom.write(facts(kind))) is None


def test_the_validator_does_find_what_is_wrong(facts) -> None:
    bom = mlbom.write(facts())
    bom["metadata"]["component"]["modelCard"]["opinion"] = "good"
    assert wrong_with(bom) is not None


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_with_nothing_known_beyond_the_files_a_bill_is_still_valid(facts, kind: str) -> None:
    bare = facts(kind, card={}, license=None, sources=(), evaluation=None, duties=())
    assert wrong_with(mlbom.write(bare)) is None
    holds, said = conforms(spdx.write(bare))
    assert holds, said


def test_a_model_is_described_by_its_card_its_sources_and_its_evaluation(facts) -> None:
    bom = mlbom.write(facts())
    about = bom["metadata"]["component"]
    card = about["modelCard"]
    assert (about["type"], about["name"], about["version"]) == ("machine-learning-model", "Diagnosis", "1.0.0")
    assert about["licenses"] == [{"expression": "Apache-2.0 AND CC-BY-4.0", "acknowledgement": "declared"}]
    assert card["modelParameters"]["task"] == "tabular-classification"
    assert card["modelParameters"]["datasets"] == [{"ref": "source:rev_hidden"}, {"ref": "source:rev_test"}]
    assert [each["name"] for each in about["pedigree"]["ancestors"]] == ["Base"]
    measured = {(row["type"], row.get("slice")): row for row in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert measured["accuracy", None]["confidenceInterval"] == {"lowerBound": "0.93", "upperBound": "0.99"}
    assert measured["accuracy", "radius: 1.0 to 2.0"]["value"] == "0.9"
    assert ("roc_auc", None) not in measured, "what could not be measured has no value"
    assert card["considerations"]["technicalLimitations"] == ["one hospital"]
    assert card["considerations"]["ethicalConsiderations"] == [{"name": "A source is less open than this asset."}]


def test_groups_of_texts_are_named_by_their_value_and_one_too_small_to_measure_is_left_out(facts) -> None:
    groups = [
        {"name": "zh", "records": 60, "accuracy": 0.8, "accuracy_interval": [0.7, 0.9]},
        {"name": "de", "records": 3, "accuracy": None, "accuracy_interval": None},
    ]
    evaluation = {"metrics": {"accuracy": 0.8}, "subgroups": {"column": "language", "kind": "values", "groups": groups}}
    card = mlbom.write(facts(evaluation=evaluation))["metadata"]["component"]["modelCard"]
    measured = [(row["type"], row.get("slice")) for row in card["quantitativeAnalysis"]["performanceMetrics"]]
    assert measured == [("accuracy", None), ("accuracy", "language: zh")]


def test_every_file_has_its_hash_and_its_own_licence(facts) -> None:
    files = {each["name"]: each for each in mlbom.write(facts())["components"] if each["type"] == "file"}
    assert files["README.md"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert files["README.md"]["licenses"][0]["expression"] == "CC-BY-4.0"
    assert files["weights.onnx"]["licenses"] == [{"license": {"name": "my own terms", "acknowledgement": "declared"}}]


@pytest.mark.parametrize("write", [mlbom.write, spdx.write])
def test_of_a_source_that_is_not_public_only_ids_and_digests_are_told(facts, write: Any) -> None:
    secret = facts().sources[0]
    said = json.dumps(write(facts()))
    assert secret.revision in said and secret.digest in said
    named = replace(secret, title="kestrel", org="kestrel", license="MIT", kind="dataset", number=7)
    assert "kestrel" in json.dumps(write(facts(sources=(named,)))), "were it public, it would be named"


@pytest.mark.parametrize("write", [mlbom.write, spdx.write])
def test_the_same_release_gives_the_same_bytes(facts, write: Any) -> None:
    assert rfc8785.dumps(write(facts())) == rfc8785.dumps(write(facts()))
    assert rfc8785.dumps(write(facts())) != rfc8785.dumps(write(facts(statement="0" * 64)))


def test_a_list_that_is_cut_short_says_so(facts, monkeypatch) -> None:
    assert mlbom.write(facts())["compositions"][0]["aggregate"] == "complete"
    monkeypatch.setattr(mlbom, "MAX_FILES", 2)
    monkeypatch.setattr(spdx, "MAX_FILES", 2)
    bom, document = mlbom.write(facts()), spdx.write(facts())
    assert bom["compositions"][0]["aggregate"] == "incomplete"
    assert wrong_with(bom) is None
    contains = [each for each in document["@graph"] if each.get("relationshipType") == "contains"]
    assert [(len(each["to"]), each["completeness"]) for each in contains] == [(2, "incomplete")]


def test_completeness_counts_what_the_document_itself_says(facts) -> None:
    whole = mlbom.completeness(mlbom.write(facts("dataset", files=facts().files[:2])))
    assert (whole.percent, whole.missing) == (100, ())
    partly = mlbom.completeness(mlbom.write(facts(evaluation=None, sources=())))
    assert partly.missing == ("file-licenses", "datasets", "metrics")
    assert partly.percent == int(100 * (9 + 2 / 3) / 12)
    assert mlbom.completeness(mlbom.write(facts(card={}, files=()))).percent < partly.percent


# ---- SPDX ------------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("kind", ["model", "dataset", "code"])
def test_a_document_of_every_kind_of_asset_conforms_to_spdx(facts, kind: str) -> None:
    document = spdx.write(facts(kind))
    holds, said = conforms(document)
    assert holds, said
    read = spdx_model.SHACLObjectSet()
    spdx_model.JSONLDDeserializer().deserialize_data(document, read)
    assert {type(each).__name__ for each in read.foreach()} >= {"SpdxDocument", "software_File", "Relationship"}


@pytest.mark.long
@pytest.mark.parametrize(
    "spoil",
    [
        lambda each: each["verifiedUsing"][0].pop("hashValue") if each["type"] == "software_File" else None,
        lambda each: each.update(releaseTime="yesterday") if each["type"] == "ai_AIPackage" else None,
        lambda each: each.update(relationshipType="likes") if each["type"] == "Relationship" else None,
        lambda each: each.pop("to", None) if each["type"] == "Relationship" else None,
    ],
)
def test_the_shapes_do_find_what_is_wrong(facts, spoil: Any) -> None:
    document = spdx.write(facts())
    for each in document["@graph"]:
        spoil(each)
    assert not conforms(document)[0]


def test_spdx_says_what_a_model_was_trained_on_tested_on_and_descends_from(facts) -> None:
    graph = spdx.write(facts())["@graph"]
    related = {each["relationshipType"]: each["to"] for each in graph if each["type"] == "Relationship"}
    assert related["trainedOn"] == ["urn:gongqi:rel_1:source:rev_hidden"]
    assert related["testedOn"] == ["urn:gongqi:rel_1:source:rev_test"]
    assert related["descendantOf"] == ["urn:gongqi:rel_1:source:rev_base"]
    package = next(each for each in graph if each.get("spdxId") == "urn:gongqi:rel_1:package")
    assert package["ai_limitation"] == "one hospital"
    assert {"type": "DictionaryEntry", "key": "accuracy", "value": "0.97"} in package["ai_metric"]


def test_the_profiles_ask_for_more_than_the_shapes_and_get_it(facts) -> None:
    """Of each package of the AI and Dataset profiles: one licence that is declared and one that is concluded."""
    graph = spdx.write(facts())["@graph"]
    packages = {each["spdxId"] for each in graph if each["type"] in ("ai_AIPackage", "dataset_DatasetPackage")}
    assert len(packages) == 3
    for relation in ("hasDeclaredLicense", "hasConcludedLicense"):
        related = [each["from"] for each in graph if each.get("relationshipType") == relation]
        assert {each: related.count(each) for each in packages} == dict.fromkeys(packages, 1)
    (document,) = (each for each in graph if each["type"] == "SpdxDocument")
    assert {"ai", "dataset"} <= set(document["profileConformance"])
