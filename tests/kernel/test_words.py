"""Every sentence in both languages, and a house that refuses to stand without them."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

import gongqi.kernel
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.words import DEFAULT_LANGUAGE, LANGUAGES, Words, negotiate, tag

KERNEL_WORDS = Path(gongqi.kernel.__file__).with_name("words.toml")
GOOD = """
[error."a.b"]
status = 422
zh = "数量 {n} 不对。"
en = "The number {n} is wrong."
remedy_zh = "改成 {n} 以外的数。"
remedy_en = "Use another number than {n}."
[text]
"a.title" = { zh = "标题 {name}", en = "Title {name}" }
"""


@pytest.fixture
def words(tmp_path):
    made = Words()
    made.load(KERNEL_WORDS)
    (tmp_path / "words.toml").write_text(GOOD, "utf-8")
    made.load(tmp_path / "words.toml")
    return made


def test_an_error_reads_in_either_language_with_its_parameters(words):
    error = Refused("a.b", n=3, detail="private")
    assert words.error(error, "zh") == (422, "数量 3 不对。", "改成 3 以外的数。")
    assert words.error(error, "en") == (422, "The number 3 is wrong.", "Use another number than 3.")


def test_an_error_without_words_is_shown_as_ours_and_a_missing_parameter_hides_nothing(words):
    assert words.error(Unavailable("no.such"), "en")[0] == 500
    assert words.error(Refused("a.b"), "en")[1] == "The number {n} is wrong."


def test_parameters_are_never_read_as_a_format(words):
    sly = Refused("a.b", n="{remedy}{0.__class__}")
    assert words.error(sly, "en")[1] == "The number {remedy}{0.__class__} is wrong."


def test_a_key_nobody_wrote_shows_as_itself(words):
    assert words.text("no.key", "zh") == "no.key"
    assert words.text("a.title", "zh", name="甲") == "标题 甲"
    assert words.has("a.title")
    assert not words.has("no.key")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[text]\n"x" = { zh = "一" }', "lacks en"),
        ('[text]\n"x" = { en = "one" }', "lacks zh"),
        ('[error."x"]\nstatus = 400\nzh = "一"\nen = "one"', "remedy_"),
        ('[verb."a:b:c"]\nzh = "一"\nen = "one"', "help_"),
        ('[errors."x"]\nzh = "一"', "unknown tables"),
        ('[text]\n"a.title" = { zh = "一", en = "one" }', "twice"),
    ],
)
def test_words_that_are_incomplete_double_or_misplaced_are_refused_by_name(words, tmp_path, content, complaint):
    path = tmp_path / "bad.toml"
    path.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=complaint):
        words.load(path)


def test_the_kernels_own_words_are_whole_and_their_status_fits_their_family(words):
    for code, row in words.errors.items():
        assert 400 <= row.status < 600, code
        assert set(row.message) == set(row.remedy) == set(LANGUAGES)
        zh, en = (holes(row.message[language] + row.remedy[language]) for language in ("zh", "en"))
        assert zh == en, code


def holes(text: str) -> set[str]:
    return {name for _before, name, _format, _conversion in string.Formatter().parse(text) if name}


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, DEFAULT_LANGUAGE),
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("fr, zh;q=0.3, en;q=0.2", "zh"),
        ("en;q=0.2, zh;q=0.9", "zh"),
        ("zh;q=0, en;q=0.1", "en"),
        ("fr;q=1.0", "en"),
        ("zh;q=...", "en"),
        ("ZH-hant", "zh"),
        ("," * 5000, "en"),
    ],
)
def test_the_language_is_chosen_as_the_header_weighs_it(header, language):
    assert negotiate(header) == language


def test_language_tags_are_those_of_html():
    assert [tag(language) for language in LANGUAGES] == ["zh-CN", "en"]
