"""The rule tables of this room, read once from `data/*.yaml` and handed to the pure rules as one frozen value.

Each row says its source, a citation, its authority (standard, policy or interpretation) and its date. Loading fails
loudly when a row lacks one of them, names a licence that the SPDX index does not know, or names a licence twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from license_expression import LicenseSymbol, Licensing, get_spdx_licensing

from gongqi.kernel.gates import Citation

OPEN_FAMILIES = frozenset({"software", "data", "document", "model"})
CLOSED_FAMILIES = frozenset({"noncommercial", "noderivatives", "restricted"})
CLASSES = ("III", "II", "I")
# The list inside license-expression 30.4.4 (its .ABOUT file), and what names.yaml adds from later ones.
SPDX_LIST_VERSION = "3.27+OpenMDW-1.0"
_FOLDER = Path(__file__).with_name("data")
_PROVENANCE = ("source", "cite", "authority", "date")
_AUTHORITIES = frozenset({"standard", "policy", "interpretation"})


@dataclass(frozen=True, slots=True)
class LicenseRow:
    family: str
    cite: str
    citation: Citation


@dataclass(frozen=True, slots=True)
class TypeRow:
    allow: frozenset[str]
    fits: frozenset[str]
    cite: str
    citation: Citation


@dataclass(frozen=True, slots=True)
class ComponentRow:
    type: str
    mof_class: str
    required: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything `rules` needs to know about the world. `licensing` parses; it holds no judgement."""

    licensing: Licensing
    spdx_list_version: str
    licenses: Mapping[str, LicenseRow]
    types: Mapping[str, TypeRow]
    components: Mapping[str, ComponentRow]
    framework_cite: str
    framework: Citation
    suggestions: Mapping[str, tuple[str, ...]]


@cache
def load_tables() -> Tables:
    """The tables shipped with this version. Raises ValueError naming the row that is wrong."""
    names, licenses, components = _read("names.yaml"), _read("licenses.yaml"), _read("components.yaml")
    licensing = _licensing(names["additions"])
    return Tables(
        licensing=licensing,
        spdx_list_version=SPDX_LIST_VERSION,
        licenses=MappingProxyType(_license_rows(licenses, licensing)),
        types=MappingProxyType({name: _type_row(row) for name, row in components["types"].items()}),
        components=MappingProxyType(
            {
                kind: ComponentRow(row["type"], row["class"], row["required"])
                for kind, row in components["components"].items()
            }
        ),
        framework_cite=_provenance(components["framework"])["cite"],
        framework=_citation(components["framework"]),
        suggestions=MappingProxyType(
            {name: tuple(ids) for name, ids in _provenance(names["suggestions"])["names"].items()}
        ),
    )


def _read(name: str) -> Any:
    return yaml.safe_load((_FOLDER / name).read_text("utf-8"))


def _provenance(row: dict[str, Any]) -> dict[str, Any]:
    missing = [key for key in _PROVENANCE if not row.get(key)]
    if missing or row["authority"] not in _AUTHORITIES:
        raise ValueError(f"rule row without {missing or 'a known authority'}: {str(row)[:120]}")
    return row


def _citation(row: dict[str, Any]) -> Citation:
    url = next((word for word in row["cite"].split() if word.startswith("https://")), "")
    return Citation(row["source"], row["cite"], row["authority"], str(row["date"]), url.rstrip(";"))


def _licensing(additions: list[dict[str, Any]]) -> Licensing:
    known = get_spdx_licensing().known_symbols
    added = [LicenseSymbol(row["id"], aliases=tuple(row["aliases"])) for row in map(_provenance, additions)]
    replaced = {key for symbol in added for key in (symbol.key, *symbol.aliases)}
    return Licensing([*(symbol for key, symbol in known.items() if key not in replaced), *added])


def _license_rows(groups: list[dict[str, Any]], licensing: Licensing) -> dict[str, LicenseRow]:
    rows: dict[str, LicenseRow] = {}
    for group in map(_provenance, groups):
        if group["family"] not in OPEN_FAMILIES | CLOSED_FAMILIES:
            raise ValueError(f"unknown licence family {group['family']}")
        for license_id in map(str, group["ids"]):
            if license_id in rows or license_id not in licensing.known_symbols:
                raise ValueError(f"licence {license_id} is listed twice or is not an SPDX identifier")
            rows[license_id] = LicenseRow(group["family"], group["cite"], _citation(group))
    return rows


def _type_row(row: dict[str, Any]) -> TypeRow:
    checked = _provenance(row)
    return TypeRow(frozenset(checked["allow"]), frozenset(checked["fits"]), checked["cite"], _citation(checked))
