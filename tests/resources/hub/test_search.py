"""Search finds assets by their words, in both languages, as they are at this moment and for whoever may see them."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from gongqi.kernel.verbs import Caller
from gongqi.kernel.worker import Worker
from gongqi.resources.hub import search, service
from gongqi.resources.hub.models import Catalogued
from tests.resources.hub.test_service import refused

CARD = """---
title: {zh: 乳腺癌诊断模型, en: Breast cancer diagnosis}
summary: {zh: 依三十项测量判断肿块, en: Judges tumours by thirty measurements}
license: Apache-2.0 AND CC-BY-4.0
language: [zh, en]
pipeline_tag: tabular-classification
library_name: scikit-learn
tags: [medical, 乳腺]
---
# 用途

供放射科医师参考，不作最终判断。 Trained in Shenyang.
"""


def found(hub, q: str = "", actor=None, **given) -> list[str]:
    page = hub.ask(service.search_assets, actor or hub.stranger, q=q, **given)
    return [asset.slug for asset in page.items]


@pytest.fixture
def model(hub):
    asset = hub.asset(slug="wdbc-model", kind="model", title_zh="样例", title_en="Sample")
    file = hub.bring(hub.hospital, "README.md", CARD.encode())
    return hub.do(service.commit, hub.donor, asset=asset.id, message="m", files=[file])


@pytest.mark.parametrize(
    "words",
    [
        "乳腺癌", "诊断", "癌", "乳腺癌诊断", "诊断 乳腺癌", "癌诊断模型", "breast", "BREAST diagnosis", "diag", "Ｂreast",
        "wdbc-model", "wdbc", "三十项", "tumours", "放射科", "shenyang", "apache-2.0", "tabular classification",
        "medical 肿块", "scikit",
    ],
)  # fmt: skip
def test_an_asset_is_found_by_what_it_is_called_and_what_its_card_says(hub, model, words):
    assert found(hub, words) == ["wdbc-model"]


@pytest.mark.parametrize(
    "words", ["肺癌", "癌乳腺", "诊模", "east", "breast lung", "b", "!!!", "“”", '"', "NOT breast x", "*"]
)
def test_what_is_not_there_is_not_found(hub, model, words):
    assert found(hub, words) == []


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        ("kind", "model", "dataset"), ("license", "apache-2.0", "mit"), ("license", "CC-BY-4.0", "cc-by-4"),
        ("license", "Apache-2.0 AND CC-BY-4.0", "and"), ("task", "tabular-classification", "tabular"),
        ("language", "zh", "fr"), ("tag", "乳腺", "乳腺癌"), ("library", "scikit-learn", "scikit"),
    ],
)  # fmt: skip
def test_a_filter_is_exact(hub, model, name, value, others):
    assert found(hub, **{name: value}) == found(hub, "诊断", **{name: value}) == ["wdbc-model"]
    assert found(hub, **{name: others}) == found(hub, "诊断", **{name: others}) == []


def test_nothing_asked_is_everything_newest_first(hub, model):
    hub.asset(slug="second")
    assert found(hub) == found(hub, "  ") == found(hub, actor=hub.operator) == ["second", "wdbc-model"]


def test_names_come_before_descriptions_and_those_before_cards_and_pages_keep_that_order(hub):
    def asset(slug: str, place: str) -> None:
        card = (
            f"---\nsummary: {{en: {place if place == 'summary' else 'x'}}}\n---\n{place if place == 'body' else ''}\n"
        )
        made = hub.asset(slug=slug, title_en="gateway" if place == "name" else "x", summary_en="")
        text = card.replace("summary}", "gateway}").replace("body", "A gateway.")
        hub.do(
            service.commit,
            hub.donor,
            asset=made.id,
            message="m",
            files=[hub.bring(hub.hospital, "README.md", text.encode())],
        )

    for number, place in enumerate(("name", "body", "summary", "name", "body", "summary")):
        asset(f"a{number}", place)
    wanted = ["a3", "a0", "a5", "a2", "a4", "a1"]
    assert found(hub, "gateway") == wanted
    for limit in range(1, 7):
        got, cursor = [], None
        while True:
            page = hub.ask(service.search_assets, hub.stranger, q="gateway", limit=limit, cursor=cursor)
            got += [each.slug for each in page.items]
            if (cursor := page.next) is None:
                break
        assert got == wanted, limit


@pytest.mark.parametrize("cursor", ["", "x", "3-1", "0-", "1-2-3", "0--1", "0-" + "9" * 19])
def test_a_cursor_of_ones_own_making_is_refused(hub, model, cursor):
    with refused("kernel.cursor-invalid"):
        hub.ask(service.search_assets, hub.stranger, q="诊断", cursor=cursor)


def test_a_search_sees_an_asset_as_it_is_now(hub, model):
    hub.do(service.edit, hub.donor, asset=model.asset, title_zh="肺结节分割")
    assert found(hub, "肺结节") == ["wdbc-model"]
    hub.do(service.edit, hub.donor, asset=model.asset, title_zh="样例")
    assert found(hub, "肺结节") == []
    file = hub.bring(hub.hospital, "README.md", "---\ntitle: 病理\nlicense: MIT\n---\n".encode())
    hub.do(service.change, hub.donor, asset=model.asset, message="m", files=[file])
    assert found(hub, "病理", license="mit") == ["wdbc-model"]
    assert found(hub, "诊断") == found(hub, license="apache-2.0") == []


def test_a_branch_is_not_what_the_asset_says(hub, model):
    hub.do(service.create_ref, hub.donor, asset=model.asset, kind="branch", name="dev")
    file = hub.bring(hub.hospital, "README.md", "---\ntitle: 病理\n---\n".encode())
    hub.do(service.change, hub.donor, asset=model.asset, message="m", files=[file], branch="dev")
    assert found(hub, "病理") == []
    assert found(hub, "诊断") == ["wdbc-model"]


def test_what_a_reader_may_not_see_is_not_found_until_it_is_opened(hub):
    asset = hub.asset(slug="closed", title_en="Closed gateway", visibility="private")
    readers = (hub.stranger, hub.researcher, hub.donor, hub.reviewer, hub.operator)
    for visibility, wanted in (("private", (0, 0, 1, 1, 1)), ("members", (0, 1, 1, 1, 1)), ("public", (1, 1, 1, 1, 1))):
        hub.do(service.open_asset, hub.donor, asset=asset.id, visibility=visibility)
        assert tuple(len(found(hub, "gateway", reader)) for reader in readers) == wanted
        assert tuple(len(found(hub, "", reader, kind="dataset")) for reader in readers) == wanted


def test_what_a_room_above_says_of_an_asset_can_be_asked_for_until_it_is_taken_back(hub, model):
    for value, wanted in (("class-ii", ["wdbc-model"]), ("class-i", []), ("class-ii", ["wdbc-model"]), (None, [])):
        hub.kernel.transact(lambda ctx, v=value: service.tell_asset(ctx, model.asset, "openness", v), reason="test")
        assert found(hub, "诊断", openness="class-ii") == wanted
    assert found(hub, "诊断") == ["wdbc-model"]


def test_an_emptied_catalogue_is_filled_again(hub, model):
    hub.asset(slug="second")
    hub.kernel.db.write(lambda session: session.execute(delete(Catalogued)))
    assert found(hub, "诊断") == found(hub) == []
    Worker(hub.kernel, threads=0).run_until_idle()
    assert found(hub, "诊断") == ["wdbc-model"]
    assert found(hub) == ["second", "wdbc-model"]


def test_an_endless_card_with_endless_tags_is_found_by_its_beginning(hub):
    tags = ", ".join(f"tag{number}" for number in range(5000))
    card = f"---\ntitle: 起\ntags: [{tags}]\n---\n" + "很长的卡片。" * 50_000 + "末尾"
    asset = hub.asset(slug="long")
    file = hub.bring(hub.hospital, "README.md", card.encode())
    hub.do(service.commit, hub.donor, asset=asset.id, message="m", files=[file])
    assert found(hub, "起") == found(hub, tag="tag1") == found(hub, kind="dataset") == ["long"]
    assert found(hub, "末尾") == found(hub, tag="tag4999") == []


@pytest.mark.parametrize("words", ["", "诊断", "nothing like it"])
def test_a_facet_says_how_many_one_finds_who_chooses_it(hub, model, words, monkeypatch):
    for slug, visibility, title in (("a", "public", "诊断甲"), ("b", "private", "诊断乙"), ("c", "public", "丙")):
        hub.asset(slug=slug, visibility=visibility, title_zh=title, title_en=slug)

    def counted(actor, *facts):
        return hub.kernel.look(lambda ctx: service.facets(ctx, words=words, facts=facts), Caller(actor))

    for actor in (hub.stranger, hub.donor):
        told = counted(actor)
        assert told.is_all and told.counted == len(found(hub, words, actor=actor))
        for name, values in told.counts.items():
            for value, count in values:
                if name not in ("visibility", "gated"):  # the search of the door does not ask for these
                    assert len(found(hub, words, actor=actor, **{name: value})) == count, (name, value)
                assert counted(actor, (name, value)).counted == count, (name, value)
    assert not words.startswith("nothing") or not counted(hub.stranger).counts
    monkeypatch.setattr(search, "SAMPLE", 1)
    few = counted(hub.donor)
    assert few.counted <= 1 and few.is_all == (len(found(hub, words, actor=hub.donor)) <= 1)
