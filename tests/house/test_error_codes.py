"""The catalogue of errors and the code agree: what is said has words, what has words is said.

That every code is also made by some test is checked at the end of a whole run, by `tests/conftest.py`.
"""

from __future__ import annotations

import re
import string
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import gongqi
from gongqi.doors.cli.verify import verify
from gongqi.kernel.errors import Refused

SOURCE = Path(gongqi.__file__).parent
SAID = re.compile(r'\b(?:Refused|Unavailable|Broken|Unfit)\(\s*"([a-z]+\.[a-z0-9-]+)"')
# 502: what another server, which we had to ask, answered or did not (RFC 9110 §15.6.3).
FAMILIES = {"Refused": (*range(400, 500), 502), "Unavailable": (429, 502, 503), "Broken": (500,)}
# What the command line says before any server answers has no HTTP status that fits its family.
AT_START = ("app.", "cli.", "kernel.home-", "kernel.port-", "kernel.schema-")
HAN = re.compile(r"[\u4e00-\u9fff]")


def catalogue() -> dict[str, dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    for path in SOURCE.glob("**/words.toml"):
        rows |= tomllib.loads(path.read_text("utf-8")).get("error", {})
    return rows


CATALOGUE = catalogue()
TEXT = "\n".join(path.read_text("utf-8") for path in sorted(SOURCE.glob("**/*.py")))


def test_what_is_said_has_words() -> None:
    assert set(SAID.findall(TEXT)) - CATALOGUE.keys() == set()


def test_what_has_words_is_said() -> None:
    """A code is in the source as it is, or is put together there from its beginning and a word of a table."""
    made = set(re.findall(r'f"([a-z]+\.[a-z-]+-){', TEXT))
    dead = {code for code in CATALOGUE if f'"{code}"' not in TEXT and not any(code.startswith(each) for each in made)}
    assert dead == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_status_belongs_to_its_family(family: str) -> None:
    said = re.findall(rf'\b{family}\(\s*"([a-z]+\.[a-z0-9-]+)"', TEXT)
    wrong = {
        code for code in said if CATALOGUE[code]["status"] not in FAMILIES[family] and not code.startswith(AT_START)
    }
    assert wrong == set()


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_both_languages_say_the_same_with_the_same_facts(code: str) -> None:
    row = CATALOGUE[code]
    texts = {name: str(row[name]) for name in ("zh", "en", "remedy_zh", "remedy_en")}
    facts = {name: {part[1] for part in string.Formatter().parse(text) if part[1]} for name, text in texts.items()}
    assert facts["zh"] == facts["en"]
    assert HAN.search(texts["zh"]) and HAN.search(texts["remedy_zh"])
    assert not HAN.search(texts["en"] + texts["remedy_en"])
    assert not any("!" in text or "！" in text for text in texts.values())


def test_verify_says_what_it_needs(tmp_path: Path) -> None:
    absent = CliRunner().invoke(verify, [str(tmp_path / "absent.zip")])
    assert isinstance(absent.exception, Refused) and absent.exception.code == "cli.file-missing"
    proof = tmp_path / "proof.json"
    proof.write_text("{}", "ascii")
    without = CliRunner().invoke(verify, [str(proof)])
    assert isinstance(without.exception, Refused) and without.exception.code == "cli.keyset-needed"
