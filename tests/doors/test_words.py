"""Words: nothing is said that nobody wrote, nothing is written that nobody says, and every error is met by a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import gongqi
from gongqi.doors.cli import main
from gongqi.doors.fields import Field, fields_of
from gongqi.kernel.words import Words

SOURCE = Path(gongqi.__file__).parent
TESTS = Path(__file__).parents[1]
FAMILIES = {"Refused", "Unavailable", "Broken"}
# Where a template or a page says a key: t("a.b") or t("a.b." ~ name). The second is a family of keys.
SAID = re.compile(r"""\bt\(\s*["']([a-z][\w.:-]*)["']\s*(~)?""")


@cache
def words() -> Words:
    every = Words()
    for path in [*sorted(SOURCE.glob("**/words.toml")), SOURCE / "doors" / "web" / "fields.toml"]:
        every.load(path)
    return every


def python() -> Iterator[tuple[Path, str]]:
    for path in sorted(SOURCE.glob("**/*.py")):
        yield path, path.read_text("utf-8")


@cache
def raised() -> dict[str, str]:
    """Every literal code given to an error, and where."""
    codes: dict[str, str] = {}
    for path, text in python():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in FAMILIES:
                continue
            code = node.args[0] if node.args else None
            for part in (code.body, code.orelse) if isinstance(code, ast.IfExp) else (code,):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    codes[part.value] = f"{path.relative_to(SOURCE)}:{node.lineno}"
    return codes


def test_every_error_that_is_raised_is_worded() -> None:
    assert {code: place for code, place in raised().items() if code not in words().errors} == {}


def test_every_worded_error_is_raised() -> None:
    literals = "\n".join(text for _, text in python())
    families = tuple(re.findall(r"""f["']([a-z]+\.[\w-]+-)\{""", literals))  # such as f"compliance.license-{why}"
    unsaid = [
        code for code in words().errors if f'"{code}"' not in literals and not code.startswith(families or ("\0",))
    ]
    assert unsaid == []


def test_every_key_that_a_template_says_is_written() -> None:
    unknown = []
    for path in sorted(SOURCE.glob("**/templates/*.html")):
        for key, family in SAID.findall(path.read_text("utf-8")):
            known = any(each.startswith(key) for each in words().texts) if family else words().has(key)
            if not known:
                unknown.append(f"{path.relative_to(SOURCE)}: {key}")
    assert unknown == []


def test_every_written_key_is_said_somewhere() -> None:
    said = "\n".join(text for _, text in python())
    said += "\n".join(path.read_text("utf-8") for path in SOURCE.glob("**/templates/*.html"))
    families = set(re.findall(r"""["'](?:\w+=)?([a-z][\w-]*(?:\.[\w-]+)*\.)["'{]""", said)) | set(
        re.findall(r"""f["']([a-z][\w-]*(?:\.[\w-]+)*[.-])\{""", said)
    )

    def is_worded_code(key: str) -> bool:
        """A parameter of an error that is itself a code: `<code of the error>.<parameter>.<its value>`."""
        code, name, value = [*key.rsplit(".", 2), "", ""][:3]
        error = words().errors.get(code)
        return error is not None and f"{{{name}}}" in error.message["en"] and f'"{value}"' in said

    dead = [
        key
        for key in words().texts
        if not key.startswith("field.")
        and not is_worded_code(key)
        and f'"{key}"' not in said
        and f"'{key}'" not in said
        and not any(key.startswith(family) for family in families)
    ]
    assert dead == []


def test_an_error_says_the_same_things_in_both_languages() -> None:
    def named(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text))

    for code, error in words().errors.items():
        assert named(error.message["zh"]) == named(error.message["en"]), code


def test_chinese_is_written_with_its_own_marks() -> None:
    """No sentence in Chinese ends in, or separates Han with, a Western mark."""
    western = re.compile(r"[\u4e00-\u9fff][,;!?](?!\d)|[\u4e00-\u9fff]\.$")
    for code, error in words().errors.items():
        assert not western.search(error.message["zh"] + "\n" + error.remedy["zh"]), code
    for key, both in words().texts.items():
        assert not western.search(both["zh"]), key


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_nothing_shouts(lang: str) -> None:
    for code, error in words().errors.items():
        assert not set("!！") & set(error.message[lang] + error.remedy[lang]), code


def every_field(fields: Iterable[Field]) -> Iterator[Field]:
    for field in fields:
        yield field
        yield from every_field(field.parts)


def test_every_value_that_a_form_lets_one_choose_is_worded() -> None:
    from gongqi import app

    house = app.house()
    for verb in house.verbs.values():
        for field in every_field(fields_of(verb.input)):
            for value in field.schema.get("enum", ()):
                keys = (f"option.{verb.name}.{field.name}.{value}", f"option.{field.name}.{value}")
                assert any(map(house.words.has, keys)), keys


def test_every_field_of_every_verb_is_worded() -> None:
    from gongqi import app

    house = app.house()
    for verb in house.verbs.values():
        shown = [field.name for field in every_field(fields_of(verb.input))]
        shown += list(verb.output.model_fields) if verb.secret else []
        for name in shown:
            assert house.words.has(f"field.{name}") or house.words.has(f"field.{verb.name}.{name}"), (verb.name, name)


def test_the_command_lines_table_of_rooms_is_the_house() -> None:
    from gongqi import app

    house = app.house()
    assert set(main.ROOMS) == {name.partition(":")[0] for name in (*house.verbs, *house.reads)}
