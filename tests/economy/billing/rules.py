"""The official rules of EN 16931 (Schematron, as CEN and FNFE-MPE publish it for Factur-X), run by Saxon as they are."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import drafthorse
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - compiled, without stubs
from saxonche import PySaxonProcessor

SCHEMA = Path(drafthorse.__file__).parent / "schema" / "Factur-X_1.0.07_EN16931.xsd"
RULES = files("facturx") / "xsd_and_schematron" / "facturx-en16931" / "FACTUR-X_EN16931.xslt"
RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"
SVRL = "{http://purl.oclc.org/dsdl/svrl}"


@cache
def _compiled() -> tuple[Any, Any]:
    saxon = PySaxonProcessor(license=False)
    return saxon, saxon.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(RULES))


def broken_rules(document: bytes) -> list[str]:
    """Which rules say no, and what they say; raises where the schema does."""
    etree.XMLSchema(file=str(SCHEMA)).assertValid(etree.fromstring(document))
    saxon, rules = _compiled()
    told = rules.transform_to_string(xdm_node=saxon.parse_xml(xml_text=document.decode()))
    report = etree.fromstring(told.encode())
    assert report.find(f".//{SVRL}fired-rule") is not None, "rules that look at nothing find nothing"
    return [" ".join("".join(each.itertext()).split()) for each in report.iter(f"{SVRL}failed-assert")]


def amounts(document: bytes, name: str) -> list[str | None]:
    return [each.text for each in etree.fromstring(document).iter(f"{RAM}{name}")]
