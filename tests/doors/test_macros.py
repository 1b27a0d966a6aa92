"""The parts of pages: worded in both languages, escaped, whole without scripts, and small."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest

import gongqi.doors.web
from gongqi.doors.web import charts
from gongqi.kernel.money import UNITS

WEB = Path(gongqi.doors.web.__file__).parent
WORDS = tomllib.loads((WEB / "words.toml").read_text())["text"]
MAX_CSS_BYTES = 30 * 1024
MAX_FIRST_VIEW_BYTES = 100 * 1024
NOW = datetime(2026, 3, 4, 9, 12, 7, tzinfo=UTC)
EVIL = "<script>alert(1)</script>\"'"
LANGUAGES = pytest.mark.parametrize(("lang", "zh"), [("zh-CN", True), ("en", False)])


def render(source: str, lang: str = "en", **values: Any) -> str:
    pages = {"page.html": source}
    folder = jinja2.FileSystemLoader(WEB / "templates")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.DictLoader(pages), folder]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    language = "zh" if lang == "zh-CN" else "en"
    frame = {
        "t": lambda key, **params: WORDS[key][language].format(**params),
        "lang": lang,
        "actor": None,
        "nav": [("/", "web.name", True), ("/evidence", "web.pages", False)],
        "csrf": "token-of-the-form",
        "path": "/here",
        "first_page": None,
        "units": UNITS,
    }
    return environment.get_template("page.html").render(**(frame | values))


def part(call: str, lang: str = "en", **values: Any) -> str:
    name = re.match(r"\w+", call)
    assert name
    return render(f'{{% from "macros.html" import {name[0]} with context %}}{{{{ {call} }}}}', lang, **values).strip()


def page(lang: str = "en", body: str = "", **values: Any) -> str:
    frame = '{% extends "base.html" %}{% block title %}T{% endblock %}{% block main %}' + body + "{% endblock %}"
    return render(frame, lang, **values)


class Tags(HTMLParser):
    """Every opening tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


# ---- the frame -----------------------------------------------------------------------------------


@LANGUAGES
def test_the_frame_speaks_the_readers_language_and_offers_the_other(lang: str, zh: bool) -> None:
    tags = Tags(page(lang))
    assert tags.named("html")[0]["lang"] == lang
    switch = {link["href"]: link for link in tags.named("a") if "hreflang" in link}
    assert switch.keys() == {"/here?lang=zh", "/here?lang=en"}
    assert "aria-current" in switch["/here?lang=zh" if zh else "/here?lang=en"]
    assert "aria-current" not in switch["/here?lang=en" if zh else "/here?lang=zh"]


def test_nothing_in_the_frame_is_inline_so_a_strict_policy_holds() -> None:
    tags = Tags(page(actor={"name": "A"}))
    assert all(script["src"] for script in tags.named("script"))
    assert not tags.named("style")
    for tag, attributes in tags.tags:
        inline = [key for key in attributes if key == "style" or key.startswith(("on", "hx-on"))]
        assert not inline, (tag, inline)


def test_sign_out_is_a_form_with_the_token_and_sign_in_is_a_link() -> None:
    signed_in, stranger = Tags(page(actor={"name": EVIL})), Tags(page())
    forms = signed_in.named("form")
    assert {form["action"] for form in forms} == {"/sign-out"}
    assert {field["value"] for field in signed_in.named("input")} == {"token-of-the-form"}
    assert not stranger.named("form")
    assert "/sign-in" in [link["href"] for link in stranger.named("a")]
    assert "<script>" not in page(actor={"name": EVIL})


def test_every_seal_a_picture_or_a_macro_uses_is_drawn_in_the_frame() -> None:
    drawn = {symbol["id"] for symbol in Tags(page()).named("symbol")}
    states = ("proven", "claimed", "broken")
    row = charts.gate_row([charts.GateSeal("g", each, "w") for each in states], title="t", description="d")
    used = set(re.findall(r'href="#(seal-\w+)"', row + "".join(part(f"seal('{each}')") for each in states)))
    assert used == drawn == {f"seal-{each}" for each in states}


def test_every_word_of_the_templates_is_in_both_languages() -> None:
    source = (WEB / "templates" / "base.html").read_text() + (WEB / "templates" / "macros.html").read_text()
    asked = set(re.findall(r"\bt\([\"']([\w.-]+)[\"']\)", source))
    asked |= {f"web.unit.{code}" for code in UNITS}
    asked |= {f"web.seal.{state}" for state in ("proven", "claimed", "broken")}
    asked |= {f"web.reason.{effect}" for effect in ("allow", "deny", "require", "unknown")}
    assert asked - WORDS.keys() == set()
    assert all(WORDS[key]["zh"] and WORDS[key]["en"] for key in asked)


def test_a_first_view_is_small() -> None:
    static = {name: len((WEB / "static" / name).read_bytes()) for name in ("console.css", "htmx.min.js", "live.js")}
    assert static["console.css"] <= MAX_CSS_BYTES
    assert sum(static.values()) + len(page().encode()) <= MAX_FIRST_VIEW_BYTES


def test_the_seal_colour_is_used_for_seals_alone() -> None:
    css = (WEB / "static" / "console.css").read_text()
    users = [
        rule.split("{")[0].strip() for rule in re.findall(r"^[^\n{}]+\{[^}]*var\(--seal\)[^}]*\}", css, re.MULTILINE)
    ]
    assert sorted(users) == [".brand svg", ".seal", "svg .proof"]


# ---- the parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1234567, "CNY-fen", "12,345.67"),
        (-1205, "CNY-fen", "−12.05"),
        (-5, "USD-cent", "−0.05"),
        (0, "CNY-fen", "0.00"),
        (48210, "token", "48,210"),
        (2**53 - 1, "CNY-fen", "90,071,992,547,409.91"),
    ],
)
def test_an_amount_is_exact_in_its_symbol(value: int, unit: str, shown: str) -> None:
    html = part("amount(value, unit)", value=value, unit=unit)
    assert re.sub(r"<[^>]+>", "|", html).split("|")[1].strip() == shown
    assert f'value="{value}"' in html


def test_a_time_says_utc_until_the_readers_zone_is_known() -> None:
    html = part("when(now)", now=NOW)
    assert 'datetime="2026-03-04T09:12:07Z"' in html
    assert 'title="2026-03-04 09:12:07 UTC"' in html
    assert html.endswith(">2026-03-04 09:12 UTC</time>")


def test_a_digest_is_short_to_the_eye_and_whole_to_the_hand() -> None:
    html = part("digest(sha)", sha="9f86d081884c7d659a2f")
    assert ">9f86d081884c…</code>" in html
    assert 'data-copy="9f86d081884c7d659a2f"' in html


def test_a_seal_without_evidence_is_not_a_link() -> None:
    assert "<a " not in part("seal('claimed')")
    assert 'href="/evidence/7"' in part("seal('proven', '/evidence/7', 'Signed')")


@LANGUAGES
def test_reasons_say_their_effect_in_words(lang: str, zh: bool) -> None:
    items = [{"effect": "deny", "text": EVIL}, {"effect": "allow", "text": "b", "cite": "SPDX", "href": "/x"}]
    html = part("reasons(items)", lang, items=items)
    assert ("拒绝" if zh else "Denied") in html
    assert "<script>" not in html
    assert '<a href="/x">SPDX</a>' in html


def test_table_cells_carry_their_label_for_the_card_form() -> None:
    cells = Tags(part("table('c', [('Name', ''), ('Share', 'num')], [['a', '1']])")).named("td")
    assert [cell["data-label"] for cell in cells] == ["Name", "Share"]


def test_a_verb_sends_the_token_and_one_that_cannot_be_used_says_why() -> None:
    free = part("verb_button('Publish', '/do/x', {'id': evil})", evil=EVIL)
    assert 'name="csrf" value="token-of-the-form"' in free
    assert "<script>" not in free
    barred = part("verb_button('Vote', '/do/x', why='Stand aside.')")
    assert "disabled" in barred
    assert "Stand aside." in barred


def test_a_picture_has_its_table_one_click_below() -> None:
    html = part("picture(drawing, 'T', [('a', '')], [['1']])", drawing="d")
    assert re.search(r"<details><summary>Show the table</summary><table", html)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, {"type": "number", "step": "1", "min": "1", "max": "9"}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"min": "1"}),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None}, {"type": "date"}),
        ({"type": "string", "format": "email", "maxLength": 80}, {"type": "email", "maxlength": "80"}),
        ({"type": "boolean"}, {"type": "checkbox", "value": "true"}),
    ],
)
def test_an_input_is_drawn_from_its_schema(schema: dict[str, Any], expected: dict[str, str]) -> None:
    drawn = Tags(part("field('f', schema, 'Label')", schema=schema)).named("input")[0]
    assert expected.items() <= drawn.items()
    assert drawn["id"] == "field-f"


def test_a_field_keeps_what_was_typed_and_ties_the_error_to_the_input() -> None:
    html = part("field('f', {'type': 'string'}, 'L', hint='H', value=evil, error='Wrong', required=true)", evil=EVIL)
    drawn = Tags(html).named("input")[0]
    assert drawn["value"] == EVIL
    assert drawn["aria-describedby"] == "field-f-hint field-f-wrong"
    assert drawn["aria-invalid"] == "true"
    assert 'id="field-f-wrong">Wrong' in html


def test_a_password_is_never_sent_back() -> None:
    assert "secret" not in part("field('p', {'type': 'string', 'format': 'password'}, 'L', value='secret')")


def test_a_choice_marks_what_was_chosen() -> None:
    enum = Tags(part("field('f', {'enum': ['MIT', 'Apache-2.0']}, 'L', value='MIT')")).named("option")
    assert [each["value"] for each in enum if "selected" in each] == ["MIT"]
    worded = part("field('f', {'type': 'string', 'x-choices': [['a', 'Aye'], ['n', 'Nay']]}, 'L', required=true)")
    assert '<option value="n">Nay</option>' in worded


def test_a_list_shows_only_the_ways_there_are() -> None:
    assert part("pagination()") == ""
    both = Tags(part("pagination('/next')", first_page="/here")).named("a")
    assert [(each["rel"], each["href"]) for each in both] == [("first", "/here"), ("next", "/next")]


def test_a_list_is_one_line_each() -> None:
    assert ">a\nb</textarea>" in part("field('f', {'type': 'array'}, 'L', value=['a', 'b'])")


@pytest.mark.parametrize(
    "call",
    [
        "stat('Assets', 12, '/assets', 'hub.assets')",
        "definitions([('Donor', evil)])",
        "breadcrumb([('/', 'Home'), ('', evil)])",
        "pagination('/next?cursor=' ~ evil)",
        "flash('refused', evil, evil, 'web.code', 'req')",
        "empty_state(evil, 'gongqi help')",
        "timeline([{'at': now, 'text': evil}])",
    ],
)
@LANGUAGES
def test_every_part_renders_in_both_languages_and_escapes(call: str, lang: str, zh: bool) -> None:
    html = part(call, lang, evil=EVIL, now=NOW)
    assert html.startswith("<")
    assert "<script>" not in html
