"""A release as a CycloneDX 1.7 machine-learning bill of materials: facts in, document out.

The release is the component that the document is about: a model with its model card, a dataset with its governance, or an
application. Its files are components with their own licence and hash; so are its sources, which the pedigree names as
ancestors and the dependencies as what it rests on. The foundation's own evaluation is the quantitative analysis.

What is not known is left out rather than filled in, and `completeness` says how much is there: a reader should know how
far a list goes before relying on it.

Source: CycloneDX 1.7 (ECMA-424), JSON Schema bom-1.7.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gongqi import __version__
from gongqi.chain.standards.facts import EVALUATED, TRAINED, Facts, FileOf, SourceOf, instant, listed

MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.7"
MAX_FILES = 20_000  # listed one by one, about 6 MB; beyond, the document says that its list is incomplete
TYPES = {"model": "machine-learning-model", "dataset": "data"}
APPLICATION = "application"  # code, agents and tools
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:gongqi:mlbom")  # of serial numbers, which follow from the statement


def write(facts: Facts) -> dict[str, Any]:
    """The bill of materials of a release, as plain JSON."""
    files, sources = listed(facts, MAX_FILES), facts.sources
    aggregate = "complete" if len(files) == len(facts.files) else "incomplete"
    references = list(dict.fromkeys(_ref(source) for source in sources))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, facts.statement)}",
        "version": 1,
        "metadata": {
            "timestamp": instant(facts.published_at),
            "tools": {"components": [{"type": "application", "name": "gongqi", "version": __version__}]},
            "manufacturer": {"name": facts.foundation, "url": [facts.origin]},
            "component": _release(facts),
        },
        "components": [*(_file(facts, file) for file in files), *_once(_component(facts, each) for each in sources)],
        "dependencies": [
            {"ref": facts.release, "dependsOn": references},
            *({"ref": reference} for reference in references),
        ],
        "compositions": [{"aggregate": aggregate, "assemblies": [facts.release]}],
    }


def _release(facts: Facts) -> dict[str, Any]:
    ancestors = [each for each in facts.sources if each.relation not in (TRAINED, EVALUATED)]
    made: dict[str, Any] = {
        "type": TYPES.get(facts.kind, APPLICATION),
        "bom-ref": facts.release,
        "supplier": {"name": facts.org_name},
        "name": facts.title,
        "version": facts.name,
        "description": facts.said("summary") or facts.title,
        "licenses": _licenses(facts.license, facts.card.get("license")),
        "externalReferences": [
            {"type": "website", "url": facts.page},
            {"type": "distribution", "url": f"{facts.origin}/api/v1/hub/release/{facts.release}/bundle"},
            {"type": "model-card" if facts.kind == "model" else "documentation", "url": facts.url_of("README.md")},
        ],
        "properties": [
            {"name": "gongqi:asset", "value": facts.asset},
            {"name": "gongqi:revision", "value": facts.revision},
            {"name": "gongqi:revision:digest", "value": facts.digest},
            {"name": "gongqi:statement:digest", "value": facts.statement},
        ],
    }
    if ancestors:
        made["pedigree"] = {"ancestors": _once(_component(facts, each, prefix="ancestor:") for each in ancestors)}
    if facts.kind == "model":
        made["modelCard"] = _model_card(facts)
    if facts.kind == "dataset":
        made["data"] = [_data(facts)]
    return made


def _model_card(facts: Facts) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "task": ", ".join(facts.card.get("tasks") or ()),
        "datasets": [{"ref": _ref(each)} for each in facts.sources if each.relation in (TRAINED, EVALUATED)],
    }
    considerations = {
        "useCases": [facts.said("intended_use")],
        "technicalLimitations": [facts.said("limitations")],
        "ethicalConsiderations": [{"name": duty} for duty in facts.duties],
    }
    card: dict[str, Any] = {"bom-ref": f"card:{facts.release}"}
    if parameters := {name: value for name, value in parameters.items() if value}:
        card["modelParameters"] = parameters
    if metrics := _metrics(facts.evaluation or {}):
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    if said := {name: value for name, value in considerations.items() if any(value)}:
        card["considerations"] = said
    return card


def _metrics(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures of an evaluation, and of each of its groups."""
    intervals = result.get("intervals") or {}
    rows = [_metric(name, value, intervals.get(name)) for name, value in sorted(result.get("metrics", {}).items())]
    subgroups = result.get("subgroups") or {"groups": ()}
    for group in subgroups["groups"]:
        values = f"{group['from']} to {group['to']}" if "from" in group else group["name"]
        part = f"{subgroups['column']}: {values}"
        rows.append(_metric("accuracy", group["accuracy"], group["accuracy_interval"], part))
        rows.append(_metric("false_negative_rate", group.get("false_negative_rate"), None, part))
    return [row for row in rows if row]


def _metric(name: str, value: Any, interval: Any, part: str | None = None) -> dict[str, Any]:
    """One figure; none when it could not be measured."""
    if value is None:
        return {}
    row: dict[str, Any] = {"type": name, "value": str(value)}
    if part:
        row["slice"] = part
    if interval:
        row["confidenceInterval"] = {"lowerBound": str(interval[0]), "upperBound": str(interval[1])}
    return row


def _data(facts: Facts) -> dict[str, Any]:
    made = {
        "bom-ref": f"data:{facts.release}",
        "type": "dataset",
        "name": facts.title,
        "contents": {"url": f"{facts.origin}/hub/revision/{facts.revision}"},
        "description": facts.said("provenance") or facts.said("summary") or facts.title,
        "governance": {
            "custodians": [{"organization": {"name": facts.foundation}}],
            "owners": [{"organization": {"name": facts.org_name}}],
        },
    }
    personal = facts.card.get("other", {}).get("personal_data")
    if isinstance(personal, Mapping):
        personal = personal.get("en") or next(iter(personal.values()), None)
    return made | ({"sensitiveData": [str(personal)]} if personal else {})


def _file(facts: Facts, file: FileOf) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "file",
        "bom-ref": f"file:{file.path}",
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "externalReferences": [{"type": "distribution", "url": facts.url_of(file.path)}],
        "properties": [{"name": "gongqi:file:size-bytes", "value": str(file.size)}],
    }
    if file.license or file.claimed:
        made["licenses"] = _licenses(file.license, file.claimed)
    if file.component:
        made["properties"].append({"name": "gongqi:file:component", "value": file.component})
    return made


def _component(facts: Facts, source: SourceOf, *, prefix: str = "") -> dict[str, Any]:
    """A source; one that is not public has nothing but its ids and digests."""
    made: dict[str, Any] = {
        "type": TYPES.get(source.kind or "", APPLICATION),
        "bom-ref": prefix + _ref(source),
        "name": source.title or source.revision,
        "version": str(source.number) if source.number else source.digest[:12],
        "properties": [
            {"name": "gongqi:relation", "value": source.relation},
            {"name": "gongqi:asset", "value": source.asset},
            {"name": "gongqi:revision:digest", "value": source.digest},
        ],
    }
    if source.statement:
        made["properties"].append({"name": "gongqi:statement:digest", "value": source.statement})
    if source.org:
        made["supplier"] = {"name": source.org}
    if source.license:
        made["licenses"] = _licenses(source.license, None)
    if source.title:
        made["externalReferences"] = [{"type": "website", "url": f"{facts.origin}/hub/revision/{source.revision}"}]
    if source.kind == "dataset":
        made["data"] = [{"bom-ref": f"{prefix}data:{source.revision}", "type": "dataset", "name": made["name"]}]
    return made


def _licenses(expression: str | None, claimed: str | None) -> list[dict[str, Any]]:
    """What was declared: an expression, or a name where what was claimed is none."""
    if expression:
        return [{"expression": expression, "acknowledgement": "declared"}]
    return [{"license": {"name": claimed, "acknowledgement": "declared"}}] if claimed else []


def _ref(source: SourceOf) -> str:
    return f"source:{source.revision}"


def _once(components: Any) -> list[dict[str, Any]]:
    """Each reference once: a source may stand in two relations."""
    return list({each["bom-ref"]: each for each in components}.values())


# --- how much of it there is -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Completeness:
    """Whole percent of the points that a document of its kind should make, and those it does not."""

    percent: int
    missing: tuple[str, ...]


def completeness(bom: Mapping[str, Any]) -> Completeness:
    """How much a bill of materials says, read from the document alone, so that anybody can count again.

    Every component counts alike: a licence that half of the files lack is half a point.
    """
    about = bom["metadata"]["component"]
    files = [each for each in bom["components"] if each["type"] == "file"]
    points: dict[str, float] = {
        "supplier": bool(about.get("supplier")),
        "description": about["description"] != about["name"],
        "license": any("expression" in each for each in about["licenses"]),
        "file-licenses": _share(files, lambda each: any("expression" in row for row in each.get("licenses", ()))),
        "file-hashes": _share(files, lambda each: bool(each["hashes"])),
        "file-components": _share(
            files, lambda each: any(row["name"] == "gongqi:file:component" for row in each["properties"])
        ),
        "all-files": bom["compositions"][0]["aggregate"] == "complete",
    }
    if about["type"] == "machine-learning-model":
        card = about["modelCard"]
        considered = card.get("considerations", {})
        points |= {
            "task": "task" in card.get("modelParameters", {}),
            "datasets": "datasets" in card.get("modelParameters", {}),
            "metrics": "quantitativeAnalysis" in card,
            "use": "useCases" in considered,
            "limitations": "technicalLimitations" in considered,
        }
    if about["type"] == "data":
        (data,) = about["data"]
        points |= {"origin": data["description"] != about["description"], "personal-data": "sensitiveData" in data}
    missing = tuple(name for name, made in points.items() if made < 1)
    return Completeness(int(100 * sum(points.values()) / len(points)), missing)


def _share(rows: list[dict[str, Any]], holds: Any) -> float:
    return sum(map(bool, map(holds, rows))) / len(rows) if rows else 0.0
