"""Every page of the house: it fits a telephone, the browser has nothing to complain of, and it is light."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

import gongqi.app

pytestmark = pytest.mark.browser

TELEPHONE, DESKTOP = 390, 1440
MAX_FIRST_VIEW_BYTES = 100 * 1024
PERSONAL = {"/me", "/sign-in"}  # what needs no example but a reader
SMALLEST_TARGET = 24  # CSS pixels, WCAG 2.2 §2.5.8; our own buttons are 44
SPOKEN = """main => {  // what is said to people: what stands in code is for machines
  const copy = main.cloneNode(true);
  copy.querySelectorAll("code").forEach((element) => element.remove());
  return copy.textContent;
}"""
WIDER = """() => [...document.querySelectorAll("body *")].filter((element) => {
  if (element.closest(".hidden, .skip, svg, .prose table, .scroll, .tabs, .cards thead")) return false;
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.right > document.documentElement.clientWidth + 1;
}).map((element) => `${element.tagName}.${element.className} ${element.textContent.trim().slice(0, 60)}`)"""


def addresses(examples: dict[str, str]) -> list[str]:
    views = [view.path for room in gongqi.app.house().rooms for view in room.views]
    return ["/", "/sign-in", *(examples.get(path, path) for path in views if "/site/" not in path)]


def visit(page: Page, path: str) -> Response:
    answer = page.goto(path)
    assert answer and answer.status == 200, f"{path}: {answer and answer.status}"
    return answer


def test_every_page_has_an_example(examples: dict[str, str]) -> None:
    assert [path for path in addresses(examples) if "{" in path] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_page_overflows_a_telephone(read: Any, examples: dict[str, str], language: str, scheme: str) -> None:
    page = read(language, who="operator", width=TELEPHONE, scheme=scheme)
    for path in addresses(examples):
        visit(page, path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= TELEPHONE, f"{path} is {wide} px wide"
        assert page.evaluate(WIDER) == [], path


@pytest.mark.parametrize("who", ["", "operator", "hospital-person", "reviewer-1-person"])
def test_every_page_is_whole_for_every_reader(read: Any, foundation: Any, examples: dict[str, str], who: str) -> None:
    """Nothing is left unworded, nothing complains, and every link within the house leads to a page."""
    page = read("en", who=who, width=DESKTOP)
    closed = set(addresses(examples)) if who != "operator" else set()
    for path in addresses(examples):
        answer = page.request.get(path)
        if path in closed and answer.status in (401, 403, 404):
            continue
        visit(page, path)
        shown = page.locator("main").evaluate(SPOKEN).split()
        assert not {key for key in set(foundation.words.texts) & set(shown) if "." in key}, path
        assert page.locator("h1").count() == 1, f"{path}: a page has one title"
        for word in ("None", "undefined", "Markup(", "{count}"):
            assert word not in shown, f"{path}: {word}"


def test_links_lead_somewhere(read: Any, foundation: Any, examples: dict[str, str]) -> None:
    page = read("en", who="operator")
    seen: set[str] = set()
    for path in addresses(examples):
        visit(page, path)
        found = page.locator("a[href^='/']").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
        seen |= {href.partition("#")[0] for href in found if "cursor=" not in href and "lang=" not in href}
    for href in sorted(seen):
        answer = page.request.head(href) if "/bundle" in href else page.request.get(href)
        assert answer.status == 200, f"{href}: {answer.status}"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_address_that_is_not_there_says_so(read: Any, foundation: Any, language: str) -> None:
    page = read(language, width=TELEPHONE, javascript=False)
    answer = page.goto("/hub/asset/ast_nobody")
    assert answer.status == 404
    expect(page.locator("h1")).to_have_text(foundation.text("web.error.title", language))
    expect(page.get_by_role("alert")).to_contain_text("access.not-found")


def test_the_first_view_is_light(read: Any) -> None:
    page = read("zh")
    sizes: dict[str, int] = {}

    def received(response: Response) -> None:
        if not response.url.endswith("/live"):
            sizes[response.url] = len(response.body())

    page.on("response", received)
    page.goto("/", wait_until="load")
    page.wait_for_timeout(200)
    assert sum(sizes.values()) <= MAX_FIRST_VIEW_BYTES, sizes


def test_a_number_on_the_home_page_follows_what_happens(read: Any, foundation: Any) -> None:
    page = read("en")
    page.goto("/")
    entries = page.locator('svg.wide [data-live="evidence.size"]')
    before = entries.text_content() or ""
    foundation.link("reviewer-1-person")
    expect(entries).not_to_have_text(before)


def test_the_home_page_draws_the_chain_with_every_number_a_link(read: Any) -> None:
    page = read("zh")
    page.goto("/")
    numbers = page.locator("figure svg.wide [data-live]")
    assert numbers.count() >= 10
    assert numbers.evaluate_all("all => all.every((each) => each.closest('a')?.getAttribute('href'))")


def test_the_language_can_be_changed_and_stays(read: Any) -> None:
    page = read("en", width=DESKTOP)
    page.goto("/ledger")
    page.locator(".rail").get_by_role("link", name="中文").click()
    expect(page.locator("h1")).to_have_text("账本")
    page.goto("/evidence")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")


def test_buttons_are_large_enough_to_touch(read: Any, examples: dict[str, str]) -> None:
    page = read("zh", who="operator", width=TELEPHONE)
    for path in addresses(examples):
        visit(page, path)
        boxes = page.locator("main a.button:visible, main button.button:visible").evaluate_all(
            "all => all.map((each) => each.getBoundingClientRect()).map((box) => Math.min(box.width, box.height))"
        )
        assert all(side >= SMALLEST_TARGET for side in boxes), path


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_of_a_service_says_what_each_source_earns(
    read: Any, foundation: Any, examples: dict[str, str], language: str
) -> None:
    page = read(language, width=DESKTOP)
    page.goto(examples["/serving/deployment/{key}"])
    title = foundation.text("credits.flow.picture", language)
    figure = page.locator("figure", has_text=title)
    shares = [float(cell.rstrip("%")) for cell in figure.locator("td:last-child span").all_text_contents()]
    assert len(shares) >= 5 and sum(shares) == 100
    drawn = figure.locator("svg.wide text").all_text_contents()
    assert {f"{share:g}%" for share in shares} <= {word.rpartition(" ")[2] for word in drawn}
