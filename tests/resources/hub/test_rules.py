"""Names, paths, cards and revision digests: what the hub accepts and what it refuses, rule by rule."""

from __future__ import annotations

import hashlib

import pytest
import rfc8785

from gongqi.governance.compliance.tables import load_tables
from gongqi.kernel.errors import Refused
from gongqi.resources.hub import rules
from gongqi.resources.hub.rules import FileEntry

A, B, C = (hashlib.sha256(x).hexdigest() for x in (b"a", b"b", b"c"))

CARD = """---
title: {zh: 乳腺肿块诊断, en: Breast mass diagnosis}
summary:
  zh: 五百六十九例细针穿刺的测量值。
  en: Measurements of 569 fine-needle aspirates.
license: CC-BY-4.0
provenance: UCI Machine Learning Repository
intended_use: Teaching and benchmarks
limitations: No demographics
contact: data@example.org
languages: [no, zh]
version: 1.0
collected: 1993-11-01
---
# Data
"""


def refusal(code: str):
    return pytest.raises(Refused, match=rf"^{code}\(")


@pytest.mark.parametrize("slug", ["a", "breast-cancer", "qwen2.5_7b", "0", "a" * 63])
def test_an_ordinary_slug_is_accepted(slug):
    assert rules.check_slug(slug) == slug


@pytest.mark.parametrize(
    "slug", ["", "A", "-a", ".a", "a/b", "a b", "a" * 64, "a--b", "a..b", "a.", "a-", "a.git", "模型", "a\n"]
)
def test_a_slug_that_a_client_could_not_address_is_refused(slug):
    with refusal("hub.slug-invalid"):
        rules.check_slug(slug)


def test_the_hub_and_the_openness_table_know_the_same_components():
    assert set(rules.COMPONENT_KINDS) == set(load_tables().components)


def test_an_unknown_component_kind_is_refused():
    assert rules.check_component("parameters") == "parameters"
    with refusal("hub.component-unknown"):
        rules.check_component("weights")


@pytest.mark.parametrize("path", ["README.md", "a/b/c.bin", "数据/训练.csv", ".gitattributes", "a b/c", "é", "x" * 255])
def test_an_ordinary_path_is_accepted(path):
    assert rules.check_path(path) == path


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/etc/passwd", "hub.path-absolute"),
        ("C:/x", "hub.path-absolute"),
        ("a\\b", "hub.path-backslash"),
        ("a\x00b", "hub.path-control"),
        ("a\nb", "hub.path-control"),
        ("a\u202egpj.exe", "hub.path-control"),
        ("a\ud800", "hub.path-control"),
        ("../a", "hub.path-traversal"),
        ("a/../b", "hub.path-traversal"),
        ("a/..", "hub.path-traversal"),
        ("", "hub.path-empty-segment"),
        ("a//b", "hub.path-empty-segment"),
        ("a/", "hub.path-empty-segment"),
        ("./a", "hub.path-empty-segment"),
        ("e\u0301", "hub.path-not-nfc"),
        ("x" * 256, "hub.path-too-long"),
        ("字" * 86, "hub.path-too-long"),
        ("/".join(["x" * 200] * 6), "hub.path-too-long"),
    ],
)
def test_a_path_that_means_two_things_is_refused(path, code):
    with refusal(code) as caught:
        rules.check_path(path)
    assert str(caught.value.params["path"]).isascii()


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "a"],
        ["README.md", "readme.MD"],
        ["straße", "STRASSE"],
        ["ﬁle", "file"],
        ["data", "data/a.csv"],
        ["Data", "data/a.csv"],
        ["Data/a.csv", "data/b.csv"],
    ],
)
def test_two_paths_that_some_disk_would_merge_are_refused(paths):
    with refusal("hub.path-twin"):
        rules.check_paths(paths)


def test_many_files_in_one_folder_are_no_twins():
    assert rules.check_paths(["d/b", "d/a", "d/e/a", "README.md"]) == ("README.md", "d/a", "d/b", "d/e/a")


def test_a_revision_with_too_many_files_is_refused(monkeypatch):
    monkeypatch.setattr(rules, "FILE_COUNT_LIMIT", 2)
    with refusal("hub.too-many-files"):
        rules.check_paths(["a", "b", "c"])


def test_a_card_is_read_as_its_author_meant_it():
    card = rules.parse_card(CARD.encode())
    assert card.title == {"zh": "乳腺肿块诊断", "en": "Breast mass diagnosis"}
    assert card.limitations == {"und": "No demographics"}
    assert card.license == "CC-BY-4.0"
    assert card.languages == ("no", "zh"), "the country code of Norwegian is not a boolean"
    assert card.other == {"version": 1.0, "collected": "1993-11-01"}
    assert card.body == "# Data\n"
    assert rfc8785.dumps(card.front_matter())


def test_a_card_of_a_public_hub_is_understood():
    card = rules.parse_card(
        b"\xef\xbb\xbf---\r\nlanguage: en\r\npipeline_tag: text-generation\r\nlicense: mit\r\n---\r\nhi"
    )
    assert (card.languages, card.tasks, card.license, card.body) == (("en",), ("text-generation",), "mit", "hi")


@pytest.mark.parametrize("content", ["", "# Title", "---\ntitle: x\n", "\n---\na: b\n---\n"])
def test_a_readme_without_front_matter_says_nothing_yet(content):
    assert rules.parse_card(content.encode()) == rules.no_card(content)


def test_empty_front_matter_says_nothing_yet():
    assert rules.parse_card(b"---\n---\nwords") == rules.no_card("words")


def test_front_matter_is_a_map():
    with refusal("hub.card-malformed"):
        rules.parse_card(b"---\n- a\n---\n")


@pytest.mark.parametrize("name", ["main", "v1.0", "release/2026-11", "refs-1", "a_b"])
def test_a_name_that_git_can_say_is_a_ref(name):
    assert rules.check_ref(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        ".a",
        "a..b",
        "a//b",
        "a/.b",
        "a.lock",
        "a.lock/b",
        "a/",
        "a.",
        "refs/heads/x",
        "a b",
        "发布",
        "x" * 251,
        "f" * 40,
    ],
)
def test_a_name_that_git_cannot_say_or_takes_for_a_commit_is_no_ref(name):
    with refusal("hub.ref-invalid"):
        rules.check_ref(name)


BOMB = "---\na: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n---\n"


def test_a_yaml_alias_bomb_is_refused_at_its_first_alias():
    with refusal("hub.card-alias") as caught:
        rules.parse_card(BOMB.encode())
    assert caught.value.params["line"] == 3


@pytest.mark.parametrize(
    ("front", "line"),
    [
        ("a: b\na: c", 2),
        ("license: MIT\nx: {k: 1, k: 2}", 3),
        ("x: !!python/object/apply:os.system [ls]", 2),
        ("x: !!timestamp 2020-01-01", 2),
        ("x: " + "[" * 500, 2),
        ("x: [", 2),
        ("? [a, b]\n: c", 2),
        ("x: \x07", 1),
    ],
)
def test_yaml_that_is_more_than_plain_data_is_refused_with_its_line(front, line):
    with refusal("hub.card-malformed") as caught:
        rules.parse_card(f"---\n{front}\n---\n".encode())
    assert caught.value.params["line"] >= line


def test_a_number_that_canonical_json_cannot_hold_is_refused():
    with refusal("hub.card-malformed"):
        rules.parse_card(f"---\nx: {2**53}\n---\n".encode())


def test_a_card_that_is_not_utf8_names_the_line():
    with refusal("hub.card-malformed") as caught:
        rules.parse_card(b"---\ntitle: \xff\n---\n")
    assert caught.value.params["line"] == 2


def test_a_card_beyond_its_size_is_refused():
    with refusal("hub.card-too-large"):
        rules.parse_card(b"---\na: b\n---\n" + b"x" * rules.CARD_LIMIT_BYTES)
    with refusal("hub.card-too-large"):
        rules.parse_card(b"---\na: " + b"x" * rules.FRONT_MATTER_LIMIT_BYTES + b"\n---\n")


@pytest.mark.parametrize("front", ["license: [MIT]", "title: 3", "title: {en: 3}", "tasks: [1]", "tasks: {a: b}"])
def test_a_card_field_of_the_wrong_form_is_refused(front):
    with refusal("hub.card-field"):
        rules.parse_card(f"---\n{front}\n---\n".encode())


def test_a_full_card_is_complete_and_an_empty_one_lists_what_is_missing():
    full = rules.completeness(rules.parse_card(CARD.encode()), "dataset")
    assert full == rules.Completeness(percent=100, missing=())
    bare = rules.completeness(rules.parse_card(b"---\ntitle: {en: x}\nlicense: MIT\n---\n"), "model")
    assert bare.missing == (
        "title.zh", "summary.zh", "summary.en", "provenance", "intended_use", "limitations", "contact", "tasks",
    )  # fmt: skip
    assert bare.percent == 20


def test_a_title_in_no_named_language_counts_for_neither():
    found = rules.completeness(rules.parse_card(b"---\ntitle: x\n---\n"), "code")
    assert {"title.zh", "title.en"} <= set(found.missing)


FILES = [FileEntry("b.bin", 2, B, "parameters", "Apache-2.0"), FileEntry("README.md", 1, A)]


def test_a_revision_digest_is_the_sha256_of_the_documented_canonical_json():
    document = (
        f'{{"card":"{C}","files":[{{"component":null,"license":null,"path":"README.md","sha256":"{A}","size":1}},'
        f'{{"component":"parameters","license":"Apache-2.0","path":"b.bin","sha256":"{B}","size":2}}],'
        f'"parents":["{min(A, B)}","{max(A, B)}"],"type":"gongqi.revision.v1"}}'
    )
    assert rules.revision_digest(FILES, card=C, parents=[B, A, B]) == hashlib.sha256(document.encode()).hexdigest()


def test_the_order_of_files_does_not_change_a_revision():
    assert rules.revision_digest(FILES, card=C, parents=[]) == rules.revision_digest(FILES[::-1], card=C, parents=[])


@pytest.mark.parametrize(
    "changed",
    [
        FileEntry("c.bin", 2, B, "parameters", "Apache-2.0"),
        FileEntry("b.bin", 3, B, "parameters", "Apache-2.0"),
        FileEntry("b.bin", 2, C, "parameters", "Apache-2.0"),
        FileEntry("b.bin", 2, B, "architecture", "Apache-2.0"),
        FileEntry("b.bin", 2, B, "parameters", "MIT"),
        FileEntry("b.bin", 2, B, "parameters", None),
    ],
)
def test_everything_about_a_file_changes_the_revision(changed):
    before = rules.revision_digest(FILES, card=C, parents=[])
    assert rules.revision_digest([changed, FILES[1]], card=C, parents=[]) != before


def test_the_card_and_the_parents_change_the_revision():
    digests = {
        rules.revision_digest(FILES, card=card, parents=parents) for card in (A, B) for parents in ([], [A], [A, B])
    }
    assert len(digests) == 6


def test_a_digest_that_is_none_is_refused():
    with refusal("hub.digest-invalid"):
        rules.revision_digest([FileEntry("a", 1, "abc")], card=C, parents=[])
    with refusal("hub.digest-invalid"):
        rules.revision_digest(FILES, card=C.upper(), parents=[])


def test_a_card_digest_covers_the_body_and_every_field():
    changes = [("CC-BY-4.0", "MIT"), ("# Data", "# Date"), ("乳腺", "乳房"), ("1993", "1994"), ("[no, zh]", "[zh, no]")]
    cards = [CARD, *(CARD.replace(old, new) for old, new in changes)]
    assert len({rules.card_digest(rules.parse_card(text.encode())) for text in cards}) == len(cards)
