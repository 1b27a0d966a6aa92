"""Every page can be used by everyone: axe-core finds nothing, in both languages, light and dark, on a telephone and a desk.

All of axe-core's rules are asked, those of WCAG 2.2 A and AA and its best practices; whatever it finds fails the test,
from minor to critical. What a machine cannot tell (whether a label says the right thing) it does not find.
"""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.test_pages import DESKTOP, TELEPHONE, addresses

pytestmark = pytest.mark.browser

FORMS = (  # one with every kind of field, one with choices and long texts, one that acts at once
    "/do/hub/revision/commit", "/do/upstream/donation/offer", "/do/members/token/issue", "/do/scenarios/outcome/report",
)  # fmt: skip
ERRORS = ("/hub/asset/ast_nobody", "/nowhere", "/sign-in/spent", "/do/ethics/vote/none")
axe = Axe()


def complaints(page: Page) -> list[str]:
    found = axe.run(page).response["violations"]
    return [f"{each['impact']} {each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


@pytest.mark.timeout(400)  # some fifty pages, each examined in Chromium
@pytest.mark.parametrize(
    ("language", "scheme", "width"),
    [("zh", "light", DESKTOP), ("zh", "dark", TELEPHONE), ("en", "dark", DESKTOP), ("en", "light", TELEPHONE)],
)
def test_axe_finds_nothing_on_any_page(
    read: Any, examples: dict[str, str], language: str, scheme: str, width: int
) -> None:
    page = read(language, who="operator", width=width, scheme=scheme)
    wrong = {}
    for path in (*addresses(examples), *FORMS, *ERRORS):
        page.goto(path)
        if found := complaints(page):
            wrong[path] = found
    assert wrong == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_a_form_that_was_refused(read: Any, foundation: Any, scheme: str) -> None:
    page = read("zh", who="operator", scheme=scheme)
    page.goto("/do/upstream/donation/offer")
    page.locator("form.form").evaluate("form => { form.noValidate = true; }")
    page.locator("main button.button-primary").click()
    page.get_by_role("alert").wait_for()
    assert page.locator("[aria-invalid=true]").count() >= 1
    assert complaints(page) == []


def test_axe_sees_what_is_wrong(read: Any) -> None:
    """The measure itself: a page spoilt on purpose is found."""
    page = read("en")
    page.goto("/sign-in")
    page.evaluate("document.querySelector('label[for=field-handle]').remove()")
    assert any("label" in each for each in complaints(page))
