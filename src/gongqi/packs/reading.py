"""A pack as its folder says it is, read once, checked, and held against its own worked cases.

A row without an article, an authority and a date is refused, as is one that claims more authority than what it rests on, a
rule that does what the pack did not ask to do, and one without words. The digest is over all files of the folder, code
included, by name and content.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from gongqi.kernel.words import LANGUAGES
from gongqi.packs import rules
from gongqi.packs.rules import Rule, Source
from gongqi.resources.serving.plane.duties import Detector

PARTS = (".toml", ".yaml", ".py")
_STRENGTH = {authority: place for place, authority in enumerate(rules.AUTHORITIES)}  # the first is the strongest


@dataclass(frozen=True, slots=True)
class Pack:
    """What comes with this version: a folder, and the code that fills ports."""

    folder: Path
    detectors: tuple[Detector, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """`finds` of a `detector` in `text`, or what rules say of `facts` on a day: `expects` by rule."""

    zh: str
    en: str
    expects: Mapping[str, str]
    facts: Mapping[str, str]
    as_of: date
    detector: str = ""
    text: str = ""
    finds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadPack:
    """A pack that was read. `texts` are the keys of its words."""

    name: str
    jurisdiction: str
    version: str
    dated: date
    regions: frozenset[str]
    capabilities: tuple[str, ...]
    digest: str
    sources: tuple[Source, ...]
    rules: tuple[Rule, ...]
    cases: tuple[Case, ...]
    detectors: Mapping[str, Detector]


def read(pack: Pack) -> ReadPack:
    """Raises ValueError at what a pack may not be."""
    head = tomllib.loads((pack.folder / "pack.toml").read_text("utf-8"))
    name, capabilities = head["id"], tuple(head["capabilities"])
    if unknown := set(capabilities) - set(rules.CAPABILITIES):
        raise ValueError(f"pack {name}: unknown capabilities {sorted(unknown)}")
    detectors = {each.name: each for each in pack.detectors}
    sources = {row["id"]: _source(name, row) for row in _rows(pack.folder / "sources.yaml")}
    made = tuple(_rule(name, row, sources, capabilities, detectors) for row in _rows(pack.folder / "rules.yaml"))
    if len({rule.id for rule in made}) < len(made):
        raise ValueError(f"pack {name}: a rule is given twice")
    _check_words(pack.folder, made)
    return ReadPack(
        name, head["jurisdiction"], head["version"], head["dated"], frozenset(head["regions"]), capabilities,
        digest_of(pack.folder), tuple(sources.values()), made,
        tuple(_case(row) for row in _rows(pack.folder / "cases.yaml")), detectors,
    )  # fmt: skip


def failures(pack: ReadPack) -> list[str]:
    """The worked cases that do not come out as written; a pack without any has not been worked."""
    failed = [] if pack.cases else ["no cases"]
    for case in pack.cases:
        if case.detector:
            spans = sorted(set(pack.detectors[case.detector].find(case.text)))
            widest = [span for span in spans if not any(_covers(other, span) for other in spans if other != span)]
            if tuple(case.text[start:end] for start, end in widest) != case.finds:
                failed.append(case.en)
        else:
            found = rules.find(pack.rules, case.facts, case.as_of, pack.regions)
            if {each.rule.id: each.state for each in found} != dict(case.expects):
                failed.append(case.en)
    return failed


def digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in PARTS and path.is_file():
            content = path.read_bytes()
            digest.update(b"%s\0%d\0" % (path.relative_to(folder).as_posix().encode(), len(content)))
            digest.update(content)
    return digest.hexdigest()


def _covers(wide: tuple[int, int], narrow: tuple[int, int]) -> bool:
    return wide[0] <= narrow[0] and narrow[1] <= wide[1]


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    return yaml.safe_load(path.read_text("utf-8")) or ()


def _source(pack: str, row: dict[str, Any]) -> Source:
    source = Source(row["id"], row["instrument"], str(row["article"]), row["authority"], row["since"], row["url"])
    if source.authority not in rules.AUTHORITIES or not source.article or set(source.instrument) != set(LANGUAGES):
        raise ValueError(f"pack {pack}: source {source.id} lacks an article, an authority or a language")
    return source


def _rule(
    pack: str, row: dict[str, Any], sources: Mapping[str, Source], capabilities: tuple[str, ...],
    detectors: Mapping[str, Detector],
) -> Rule:  # fmt: skip
    try:
        rule = Rule(
            row["id"], row["does"], row["when"], row.get("unknown", "tell"), row["authority"], row["since"],
            row.get("until"), tuple(sources[name] for name in row["rests_on"]), row.get("params", {}),
        )  # fmt: skip
        rules.check(rule.when)
        asked = rules.DOES[rule.does]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"pack {pack}: rule {str(row.get('id'))[:60]}: {error}") from error
    if not rule.rests_on or rule.authority not in rules.AUTHORITIES or rule.unknown not in ("apply", "tell"):
        raise ValueError(f"pack {pack}: rule {rule.id} rests on nothing, or is not worded as rules are")
    if _STRENGTH[rule.authority] < min(_STRENGTH[source.authority] for source in rule.rests_on):
        raise ValueError(f"pack {pack}: rule {rule.id} claims more authority than it rests on")
    if asked is not None and asked not in capabilities:
        raise ValueError(f"pack {pack}: rule {rule.id} does what the pack did not ask for")
    if strange := set(rule.params.get("mask", ())) - detectors.keys():
        raise ValueError(f"pack {pack}: rule {rule.id} names detectors that are not there: {sorted(strange)}")
    return rule


def _case(row: dict[str, Any]) -> Case:
    return Case(
        row["zh"], row["en"], row.get("expects", {}), row.get("facts", {}), row.get("as_of", date.min),
        row.get("detector", ""), row.get("text", ""), tuple(row.get("finds", ())),
    )  # fmt: skip


def _check_words(folder: Path, made: tuple[Rule, ...]) -> None:
    texts = tomllib.loads((folder / "words.toml").read_text("utf-8"))["text"]
    lacking = [rule.id for rule in made if f"packs.rule.{rule.id}" not in texts]
    if lacking:
        raise ValueError(f"{folder.name}: rules without words: {lacking}")
