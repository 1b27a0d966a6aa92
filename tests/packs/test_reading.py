"""A pack is read from its folder, and refused where it is not as packs are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gongqi.packs.cn import PACK
from gongqi.packs.reading import Pack, digest_of, failures, read
from gongqi.packs.shelf import detector, shelf


@pytest.fixture
def copy(tmp_path: Path) -> Pack:
    folder = tmp_path / "cn"
    shutil.copytree(PACK.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Pack(folder, PACK.detectors)


def change(pack: Pack, file: str, old: str, new: str) -> None:
    path = pack.folder / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_the_packs_that_come_with_this_version_work_their_own_cases() -> None:
    assert set(shelf()) == {"cn", "eu"}
    assert {name: failures(pack) for name, pack in shelf().items()} == {"cn": [], "eu": []}
    assert detector("cn.mobile-number").label == "cntel"


def test_a_digest_is_of_every_byte_of_the_folder_and_of_nothing_else(copy: Pack) -> None:
    before = digest_of(copy.folder)
    assert before == digest_of(PACK.folder)
    (copy.folder / "__pycache__").mkdir()
    (copy.folder / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert digest_of(copy.folder) == before
    change(copy, "identifiers.py", "def find_mobile", "def  find_mobile")
    assert digest_of(copy.folder) != before


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("rules.yaml", "authority: interpretation", "authority: statute", None),
        ("rules.yaml", "rests_on: [cn.label.4, cn.gb45438]", "rests_on: [cn.gb45438]", None),
        ("rules.yaml", "rests_on: [cn.label.9]", "rests_on: [cn.gb45438]", "more authority"),
        ("rules.yaml", "rests_on: [cn.label.9]", "rests_on: []", "rests on nothing"),
        ("rules.yaml", "rests_on: [cn.label.9]", "rests_on: [cn.none]", "cn.none"),
        ("rules.yaml", "does: show", "does: dance", "dance"),
        ("rules.yaml", "does: note", "does: deny", "did not ask"),
        ("rules.yaml", "id: cn.label.removal", "id: cn.label.explicit", "twice"),
        ("rules.yaml", "id: cn.label.removal", "id: cn.label.silent", "without words"),
        ("rules.yaml", "{inside: caller}", "{beside: caller}", "no condition"),
        ("rules.yaml", "cn.mobile-number", "cn.shoe-size", "shoe-size"),
        ("sources.yaml", 'article: "38"', 'article: ""', "lacks an article"),
        ("sources.yaml", "authority: standard", "authority: rumour", "lacks an article"),
        ("pack.toml", '"gateway.mask"', '"gateway.read"', "gateway.read"),
    ],
)
def test_a_row_that_is_not_as_rows_are_is_refused(copy: Pack, file: str, old: str, new: str, why: str | None) -> None:
    change(copy, file, old, new)
    if why is None:
        read(copy)
        return
    with pytest.raises(ValueError, match=why):
        read(copy)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("rules.yaml", "since: 2021-11-01", "since: 2022-11-01"),
        ("rules.yaml", "{not: {inside: server}}", "{inside: server}"),
        ("cases.yaml", "finds: [11010519491231002X]", "finds: []"),
    ],
)
def test_a_pack_whose_rules_part_from_its_cases_says_which(copy: Pack, file: str, old: str, new: str) -> None:
    change(copy, file, old, new)
    assert failures(read(copy)) != []


def test_a_pack_without_cases_has_not_been_worked(copy: Pack) -> None:
    (copy.folder / "cases.yaml").write_text("")
    assert failures(read(copy)) == ["no cases"]
