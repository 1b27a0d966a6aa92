"""What a page must bear: names as long as they may be, rows added on a form, an expired form, a link that was used."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.test_pages import DESKTOP, TELEPHONE, WIDER, visit

pytestmark = pytest.mark.browser

LONG = {"latin": "W", "han": "醫"}  # the widest letters there are, without a place to break


def fitted(letter: str, verb: str, field: str, foundation: Any) -> str:
    """As many letters as the verb takes here, up to two hundred."""
    return letter * min(200, foundation.longest(verb, field))


@pytest.mark.parametrize("width", [TELEPHONE, DESKTOP])
@pytest.mark.parametrize("script", LONG)
def test_the_longest_names_overflow_nothing(read: Any, foundation: Any, script: str, width: int) -> None:
    operator, letter = foundation.operator, LONG[script]
    handle = f"long-{script}-{width}"
    name = fitted(letter, "members:organisation:create", "name", foundation)
    org = operator.verb("members:organisation:create", handle=handle, name=name)["id"]
    titles = {
        field: fitted(letter, "hub:asset:create", field, foundation)
        for field in ("title_zh", "title_en", "summary_zh", "summary_en")
    }
    asset = operator.verb("hub:asset:create", org=org, kind="code", slug=handle, visibility="public", **titles)["id"]
    page = read("zh", who="operator", width=width)
    for path in ("/hub", f"/hub/asset/{asset}", "/members", f"/members/organisation/{org}", "/evidence", "/"):
        visit(page, path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(WIDER) == [], path


@pytest.mark.parametrize("javascript", [True, False])
def test_a_row_more_keeps_what_was_typed_and_begins_where_it_was_added(read: Any, javascript: bool) -> None:
    page = read("en", who="operator", javascript=javascript)
    page.goto("/do/hub/revision/commit")
    page.locator("[name='files.0.path']").fill("README.md")
    page.locator("button[name=more][value=files]").click()
    added = page.locator("[name='files.1.path']")
    expect(added).to_be_focused()
    expect(page.locator("[name='files.0.path']")).to_have_value("README.md")


@pytest.mark.parametrize("javascript", [True, False])
def test_a_row_can_be_removed_and_those_after_it_move_up(read: Any, javascript: bool) -> None:
    page = read("zh", who="operator", javascript=javascript)
    page.goto("/do/hub/revision/commit")
    for number, path in enumerate(("a.txt", "b.txt", "c.txt")):
        if number:
            page.locator("button[name=more][value=files]").click()
        page.locator(f"[name='files.{number}.path']").fill(path)
    page.locator("button[name=less][value='files.1']").click()
    expect(page.locator("[name='files.2.path']")).to_have_count(0)
    expect(page.locator("[name='files.0.path']")).to_have_value("a.txt")
    expect(page.locator("[name='files.1.path']")).to_have_value("c.txt")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_expired_form_says_so_and_does_nothing(read: Any, foundation: Any, language: str) -> None:
    page = read(language, who="operator", width=TELEPHONE)
    page.goto("/do/members/organisation/create")
    page.locator("[name=handle]").fill(f"expired-{language}")
    page.locator("[name=name]").fill("Never founded")
    page.locator("main input[name=csrf]").evaluate("input => { input.value = 'of another day'; }")
    page.locator("main button.button-primary").click()
    expect(page.get_by_role("alert")).to_contain_text("web.form-expired")
    assert foundation.operator.read("members:party:list", handle=f"expired-{language}")["items"] == []


def test_a_spent_link_offers_the_other_way_in(read: Any, foundation: Any) -> None:
    link = foundation.link("reviewer-2-person")
    page = read("zh")
    page.goto(link)
    page.locator("main button[type=submit]").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)
    other = read("zh", width=TELEPHONE)
    answer = other.goto(link)
    assert answer.status == 410
    expect(other.get_by_role("alert")).to_contain_text("members.link-invalid")
    expect(other.locator("[name=password]")).to_be_visible()


def test_the_foundation_has_a_name_in_each_language(read: Any) -> None:
    for language, name in (("zh", "公器基金会"), ("en", "Gongqi Foundation")):
        page = read(language)
        page.goto("/")
        expect(page.locator("h1")).to_have_text(name)
        page.goto("/members")
        expect(page.locator("main")).to_contain_text(name)
