"""A release as an SPDX 3.0.1 document with the AI and Dataset profiles: facts in, JSON-LD out.

The release is a package, of the AI profile for a model and of the Dataset profile for a dataset; it contains its files;
each file and package has its declared licence; the sources are packages that it was trained on, tested on, or descends
from. Every element names who made the statement and when: the foundation, at publication.

Source: SPDX 3.0.1, model and JSON-LD serialisation (https://spdx.org/rdf/3.0.1/spdx-context.jsonld).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gongqi.chain.standards.facts import EVALUATED, TRAINED, Facts, SourceOf, instant, listed

MEDIA_TYPE = 'application/ld+json; profile="https://spdx.org/rdf/3.0.1/spdx-context.jsonld"'
CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
MAX_FILES = 20_000  # listed one by one, about 20 MB; beyond, the document says that its list is incomplete
CREATION = "_:creation"
TYPES = {"model": "ai_AIPackage", "dataset": "dataset_DatasetPackage"}
PROFILES = {"ai_AIPackage": "ai", "dataset_DatasetPackage": "dataset"}
PURPOSES = {"model": "model", "dataset": "data"}
RELATIONS = {TRAINED: "trainedOn", EVALUATED: "testedOn"}  # all others: descendantOf


def write(facts: Facts) -> dict[str, Any]:
    """The document of a release, as plain JSON."""
    made = _Graph(facts)
    made.all()
    return {"@context": CONTEXT, "@graph": made.elements}


class _Graph:
    """The elements of one document, in the order in which they are made. Ids say what they are ids of."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.elements: list[dict[str, Any]] = []
        self._licenses: dict[str, str] = {}
        self.foundation = self._id("foundation")
        self.root = self._id("package")

    def all(self) -> None:
        facts = self.facts
        self.elements.append(
            {
                "type": "CreationInfo", "@id": CREATION, "specVersion": "3.0.1", "created": instant(facts.published_at),
                "createdBy": [self.foundation],
            }
        )  # fmt: skip
        self._add("Organization", self.foundation, name=facts.foundation)
        self._add("Organization", self._id("supplier"), name=facts.org_name)
        self._add(TYPES.get(facts.kind, "software_Package"), self.root, **self._package())
        self._license("hasDeclaredLicense", self.root, facts.license)
        self._license("hasConcludedLicense", self.root, facts.license)  # as the licence gate read it
        files = listed(facts, MAX_FILES)
        whole = "complete" if len(files) == len(facts.files) else "incomplete"
        self._relate("contains", self.root, [self._file(each.path, each.sha256, each.license) for each in files], whole)
        self._lineage(facts.sources)
        ids = [each["spdxId"] for each in self.elements if "spdxId" in each]
        kinds = {each["type"] for each in self.elements}
        profiles = [
            "core",
            "software",
            "simpleLicensing",
            *(PROFILES[kind] for kind in sorted(kinds & PROFILES.keys())),
        ]
        self._add(
            "SpdxDocument", self._id("document"), name=f"{facts.title} {facts.name}", profileConformance=profiles,
            rootElement=[self.root], element=ids,
        )  # fmt: skip

    def _package(self) -> dict[str, Any]:
        facts = self.facts
        made: dict[str, Any] = {
            "name": facts.title,
            "description": facts.said("summary") or facts.title,
            "software_packageVersion": facts.name,
            "software_downloadLocation": f"{facts.origin}/api/v1/hub/release/{facts.release}/bundle",
            "software_homePage": facts.page,
            "suppliedBy": self._id("supplier"),
            "originatedBy": [self._id("supplier")],
            "builtTime": instant(facts.created_at),
            "releaseTime": instant(facts.published_at),
            "externalIdentifier": [
                {"type": "ExternalIdentifier", "externalIdentifierType": "other", "identifier": f"urn:gongqi:{each}"}
                for each in (facts.release, f"revision:{facts.digest}", f"statement:{facts.statement}")
            ],
        }
        if purpose := PURPOSES.get(facts.kind):
            made["software_primaryPurpose"] = purpose
        if from_ := facts.imported:
            claimed = f"licence claimed there: {from_.license}" if from_.license else "no licence claimed there"
            made["software_sourceInfo"] = f"{from_.repo} at {from_.endpoint}, commit {from_.commit}; {claimed}"
        extra = {"model": self._as_model, "dataset": self._as_dataset}.get(facts.kind)
        return made | ({name: value for name, value in extra().items() if value} if extra else {})

    def _as_model(self) -> dict[str, Any]:
        facts = self.facts
        metrics = (facts.evaluation or {}).get("metrics", {})
        return {
            "ai_domain": list(facts.card.get("tasks") or ()),
            "ai_informationAboutApplication": facts.said("intended_use"),
            "ai_informationAboutTraining": facts.said("provenance"),
            "ai_limitation": facts.said("limitations"),
            "ai_metric": [
                {"type": "DictionaryEntry", "key": name, "value": str(value)}
                for name, value in sorted(metrics.items())
                if value is not None
            ],
        }

    def _as_dataset(self) -> dict[str, Any]:
        facts = self.facts
        return {
            "dataset_datasetType": ["noAssertion"],
            "dataset_datasetSize": sum(file.size for file in facts.files),
            "dataset_datasetAvailability": "directDownload",
            "dataset_dataCollectionProcess": facts.said("provenance"),
            "dataset_intendedUse": facts.said("intended_use"),
            "dataset_knownBias": [said] if (said := facts.said("limitations")) else [],
        }

    def _file(self, path: str, sha256: str, license: str | None) -> str:
        key = self._id(f"file:{path}")
        hashed = [{"type": "Hash", "algorithm": "sha256", "hashValue": sha256}]
        self._add("software_File", key, name=path, verifiedUsing=hashed)
        self._license("hasDeclaredLicense", key, license)
        return key

    def _lineage(self, sources: Iterable[SourceOf]) -> None:
        made: set[str] = set()
        for source in sources:
            key = self._id(f"source:{source.revision}")
            if key not in made:
                made.add(key)
                self._source(key, source)
            self._relate(RELATIONS.get(source.relation, "descendantOf"), self.root, [key], "complete")

    def _source(self, key: str, source: SourceOf) -> None:
        """A source as a package; of one that is not public, only its id and digest are known."""
        version = str(source.number) if source.number else source.digest
        identified = [
            {"type": "ExternalIdentifier", "externalIdentifierType": "other", "identifier": f"urn:gongqi:{each}"}
            for each in (source.revision, f"revision:{source.digest}")
        ]
        about: dict[str, Any] = {
            "name": source.title or source.revision, "software_packageVersion": version, "externalIdentifier": identified,
        }  # fmt: skip
        if source.title:
            about["software_downloadLocation"] = f"{self.facts.origin}/hub/revision/{source.revision}"
        if source.kind == "dataset":
            about["dataset_datasetType"] = ["noAssertion"]
        self._add(TYPES.get(source.kind or "", "software_Package"), key, **about)
        self._license("hasDeclaredLicense", key, source.license)
        self._license("hasConcludedLicense", key, None)  # ours to conclude when it is released here

    def _license(self, relation: str, key: str, license: str | None) -> None:
        """A licence of an element; one that could not be read is nobody's to assert.

        The AI and Dataset profiles ask of each of their packages for one that is declared and one that is concluded.
        """
        if license is None:
            licensed = "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense"
        elif license in self._licenses:
            licensed = self._licenses[license]
        else:
            licensed = self._licenses[license] = self._id(f"license:{len(self._licenses) + 1}")
            self._add("simplelicensing_LicenseExpression", licensed, simplelicensing_licenseExpression=license)
        self._relate(relation, key, [licensed], "complete")

    def _relate(self, relation: str, start: str, ends: list[str], completeness: str) -> None:
        if ends:
            key = self._id(f"relation:{len(self.elements)}")
            given = {"from": start, "to": ends, "relationshipType": relation, "completeness": completeness}
            self._add("Relationship", key, **given)

    def _add(self, kind: str, key: str, **fields: Any) -> None:
        self.elements.append({"type": kind, "spdxId": key, "creationInfo": CREATION, **fields})

    def _id(self, part: str) -> str:
        return f"urn:gongqi:{self.facts.release}:{_escaped(part)}"


def _escaped(part: str) -> str:
    """A part of an IRI: what RFC 3987 does not allow there is percent-encoded; Han characters stay as they are."""
    kept = set("-._~:/@!$&'()*+,;=")
    return "".join(c if c.isalnum() or c in kept else "".join(f"%{byte:02X}" for byte in c.encode()) for c in part)
