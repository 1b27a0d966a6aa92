"""A model is talked to in the console: with a key, streaming, at a price; refused and stopped as any call is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_pages import TELEPHONE, WIDER
from tests.resources.serving.gateway.conftest import load_sim

pytestmark = pytest.mark.browser

MODELS = {"chat": "words=3", "slow": "words=400+slow=0.05", "embeddings": "any"}


@pytest.fixture(scope="module")
def models(foundation: Any) -> Iterator[dict[str, str]]:
    """Pages to try a model on, by name, and under `key` a key with money behind it."""
    operator, org = foundation.operator, foundation.party("hospital")
    with load_sim().upstream() as upstream:
        endpoint = operator.verb("serving:endpoint:add", name="talker", base_url=upstream.url, private=True)["id"]
        pages = {}
        for name, script in MODELS.items():
            kind = "embeddings" if name == "embeddings" else "chat"
            given = {"name": f"talk-{name}", "kind": kind, "org": org, "context_tokens": 8192, "output_tokens": 512}
            targets = [{"endpoint": endpoint, "model": script}]
            route = operator.verb("serving:route:define", targets=targets, **given)["id"]
            operator.verb("billing:price:publish", route=route, input_nanos=30_000, output_nanos=60_000)
            pages[name] = f"/serving/model/{route}/try"
        operator.verb("ledger:credit:grant", owner=org, unit="CNY-fen", amount=10_000)
        issued = operator.verb("serving:key:issue", org=org, label="talk", budget_day=1000, budget_month=1000)
        yield pages | {"key": issued["secret"]}


def say(page: Page, words: str, key: str) -> None:
    page.locator("form.with-script").wait_for()
    page.locator("#field-key").fill(key)
    page.locator("#field-said").fill(words)
    page.locator("form button[type=submit]").click()


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_answer_comes_word_by_word_and_says_what_it_cost(
    read: Any, foundation: Any, models: dict[str, str], language: str
) -> None:
    page = read(language, width=TELEPHONE)
    page.goto(models["chat"])
    say(page, "你好", models["key"])
    answer = page.locator(".talk-model").first
    expect(answer.locator(".talk-text")).to_have_text(re.compile("w0 w1 w2"))
    expect(answer.locator("a")).to_have_attribute("href", re.compile("/evidence/entry/ev_"), timeout=20_000)
    expect(answer).to_contain_text(foundation.text("serving.try.cost", language))
    page.locator("#field-said").fill("再说")
    page.locator("#field-said").press("Control+Enter")
    expect(page.locator(".talk-model")).to_have_count(2)
    assert page.evaluate(WIDER) == []
    page.locator("[data-do=clear]").click()
    expect(page.locator(".talk li")).to_have_count(0)


def test_a_vector_is_counted_and_its_first_numbers_are_shown(read: Any, models: dict[str, str]) -> None:
    page = read("en")
    page.goto(models["embeddings"])
    say(page, "text", models["key"])
    expect(page.locator(".talk-model .talk-text")).to_have_text(re.compile(r"2 numbers: \[0\.1000, 0\.2000"))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_wrong_key_is_refused_in_the_readers_language(
    read: Any, foundation: Any, models: dict[str, str], language: str
) -> None:
    page = read(language)
    page.goto(models["chat"])
    say(page, "你好", "gq-wrong")
    wrong = page.locator(".talk-model .wrong")
    expect(wrong).to_contain_text("serving.key-invalid")
    assert bool(re.search("[\u4e00-\u9fff]", wrong.inner_text())) == (language == "zh")


def test_a_reader_stops_an_answer_and_what_came_stays(read: Any, foundation: Any, models: dict[str, str]) -> None:
    page = read("en")
    page.goto(models["slow"])
    say(page, "at length", models["key"])
    expect(page.locator(".talk-model .talk-text")).to_contain_text("w1")
    page.locator("[data-do=stop]").click()
    expect(page.locator(".talk-model .wrong")).to_have_text(foundation.text("serving.try.stopped", "en"))
    assert "w1" in page.locator(".talk-model .talk-text").inner_text()
    expect(page.locator("form button[type=submit]")).to_be_enabled()


def test_without_scripts_the_page_says_how_to_call_the_model(
    read: Any, foundation: Any, models: dict[str, str]
) -> None:
    page = read("zh", javascript=False)
    page.goto(models["chat"])
    expect(page.locator("main")).to_contain_text(foundation.text("serving.try.by-command", "zh"))
    expect(page.locator("#field-key")).not_to_be_visible()
    expect(page.locator("main")).to_contain_text(f"{foundation.url}/v1/chat/completions")
