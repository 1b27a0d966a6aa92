"""From the reviewer's queue to a signed release, in a real browser: by mouse, by keyboard, and without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

MAX_TABS = 120  # more presses than any page should ask for
Step = Callable[[Page, Locator], None]


def click(_page: Page, target: Locator) -> None:
    target.click()


def press(page: Page, target: Locator) -> None:
    """Reach `target` by the Tab key alone and press Enter, seeing on the way where one is."""
    tab_to(page, target)
    outline = target.evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline != "none", "what has the focus must be seen to have it"
    page.keyboard.press("Enter")


def tab_to(page: Page, target: Locator) -> None:
    target.wait_for()
    for _ in range(MAX_TABS):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("the keyboard does not reach it")


def fill_by_mouse(page: Page, choice: Locator, rationale: Locator, words: str) -> None:
    choice.select_option("approve")
    rationale.fill(words)


def fill_by_keyboard(page: Page, choice: Locator, rationale: Locator, words: str) -> None:
    tab_to(page, choice)
    for _ in range(5):
        if choice.input_value() == "approve":
            break
        page.keyboard.press("ArrowDown")
    tab_to(page, rationale)
    page.keyboard.type(words)


WAYS = {
    "mouse": (click, fill_by_mouse, True),
    "keyboard": (press, fill_by_keyboard, True),
    "no JavaScript": (click, fill_by_mouse, False),
}


def in_main(page: Page, role: Any, name: str | re.Pattern[str]) -> Locator:
    return page.locator("main").get_by_role(role, name=name, exact=isinstance(name, str))


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("way", WAYS)
def test_two_reviewers_vote_and_the_operator_publishes(read: Any, foundation: Any, way: str, language: str) -> None:
    step, fill, javascript = WAYS[way]
    release = foundation.submitted()
    name = foundation.operator.read("hub:release:get", release)["name"]
    for number in (1, 2):
        page = read(language, who=f"reviewer-{number}-person", javascript=javascript)
        step(
            page,
            page.locator(".rail").get_by_role("link", name=foundation.text("web.nav.review", language), exact=True),
        )
        expect(in_main(page, "heading", foundation.text("ethics.waiting", language))).to_be_visible()
        step(page, in_main(page, "link", re.compile(re.escape(name))))
        step(page, in_main(page, "link", foundation.label("ethics:vote:cast", language)))
        words = {"zh": "许可与卡片均已核对。", "en": "The licences and the card were checked."}[language]
        fill(page, page.locator("#field-choice"), page.locator("#field-rationale"), words)
        step(page, in_main(page, "button", foundation.label("ethics:vote:cast", language)))
        expect(page).to_have_url(re.compile("/ethics/case/"))
        expect(page.locator("main")).to_contain_text(words)

    page = read(language, who="operator", javascript=javascript)
    page.goto(f"/hub/release/{release}")
    step(page, in_main(page, "link", foundation.label("hub:release:publish", language)))
    step(page, in_main(page, "button", foundation.label("hub:release:publish", language)))
    expect(page).to_have_url(re.compile(f"/hub/release/{release}"))
    expect(page.locator("main")).to_contain_text(foundation.text("hub.release.state.published", language))
    gates = page.locator("main figure svg.wide").first
    assert gates.locator('use[href="#seal-proven"]').count() >= 7, "every gate stands as a seal"
    assert gates.locator('use[href="#seal-broken"]').count() == 0
    step(page, page.locator("main a.seal-proven").first)
    expect(page).to_have_url(re.compile("/evidence/entry/ev_"))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_refused_vote_says_why_and_keeps_what_was_typed(read: Any, foundation: Any, language: str) -> None:
    release = foundation.submitted()
    case = foundation.operator.read("ethics:case:list", release=release)["items"][0]["id"]
    page = read(language, who="reviewer-1-person")
    page.goto(f"/do/ethics/vote/cast?case={case}")
    page.locator("#field-choice").select_option("approve")
    page.locator("#field-rationale").fill("typed once")
    page.locator("#field-digest").fill("0" * 64)
    in_main(page, "button", foundation.label("ethics:vote:cast", language)).click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#field-rationale")).to_have_value("typed once")
    expect(page.locator("#field-choice")).to_have_value("approve")


def test_the_first_tab_leads_past_the_rail(read: Any) -> None:
    page = read("en")
    page.goto("/hub")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
