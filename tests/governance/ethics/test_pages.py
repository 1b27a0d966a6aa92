"""The pages of the review and of compliance, as a stranger, a reviewer and a donor read them, in both languages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from gongqi.doors.web.callers import SESSION_COOKIE
from gongqi.doors.web.server import build as build_app
from gongqi.governance.ethics import service as ethics
from gongqi.members.models import Party
from gongqi.members.sessions import begin_session
from gongqi.resources.hub import service as hub

pytestmark = pytest.mark.heavy

BOARD = ("reviewer-1", "reviewer-2", "reviewer-3", "reviewer-4")
# A text key that nobody wrote, or a blank that nobody filled, shows as itself; error codes are shown as code.
RAW = re.compile(r"(?<!<code)>[^<]*\b(?:ethics|compliance|field|web)\.[a-z][\w.-]+[^<]*<|\{[a-z_]+\}")


class Reader:
    def __init__(self, foundation: Any) -> None:
        self.foundation = foundation
        self.app = build_app(foundation.kernel)

    def page(self, path: str, who: str | None = None, language: str = "en", status: int = 200) -> str:
        client = TestClient(self.app, base_url="http://127.0.0.1")
        if who:
            key = self.foundation.people[who].id
            begun = self.foundation.kernel.transact(
                lambda ctx: begin_session(ctx, ctx.session.get(Party, key), "test"), reason="test"
            )
            client.cookies.set(SESSION_COOKIE, begun.secret)
        answer = client.get(path, headers={"accept-language": language})
        assert answer.status_code == status, answer.text[-2000:]
        return answer.text

    def both(self, path: str, who: str | None = None) -> tuple[str, str]:
        """The page in Chinese and in English, both whole."""
        pages = self.page(path, who, "zh"), self.page(path, who, "en")
        for html in pages:
            assert not RAW.search(html), RAW.search(html)
        assert re.search("[一-鿿]", pages[0])
        return pages


@pytest.fixture
def reader(foundation: Any) -> Reader:
    return Reader(foundation)


@pytest.fixture
def two_releases(foundation: Any) -> tuple[str, str]:
    held_out = foundation.dataset("keeper", "held-out", "held-out", "evaluation-data")
    one = foundation.submit(foundation.model(1, held_out=held_out))
    foundation.work()
    for reviewer in BOARD:
        foundation.vote(one, reviewer, rationale="The figures hold.", conditions=["Name the device."])
    foundation.do(hub.publish, "operator", release=one)
    asset = foundation.ask(hub.get_release, "operator", release=one).asset
    two = foundation.submit(foundation.model(2, asset=asset, held_out=held_out), "2.0.0")
    foundation.work()
    return one, two


def test_an_empty_queue_says_what_it_is_for(reader):
    zh, en = reader.both("/ethics")
    assert "还没有审查" in zh and "No reviews yet" in en


def test_the_queue_tells_a_reviewer_what_waits_for_them_and_a_stranger_what_was_decided(reader, two_releases):
    _, mine = reader.both("/ethics", "reviewer-1")
    assert "Waiting for your vote" in mine and "2.0.0" in mine
    _, theirs = reader.both("/ethics")
    assert "Waiting for your vote" not in theirs and "2.0.0" not in theirs
    assert "1.0.0" in theirs and "Decided" in theirs
    reader.foundation.vote(two_releases[1], "reviewer-1")
    assert "Waiting for your vote" not in reader.page("/ethics", "reviewer-1")


def test_a_case_offers_the_vote_to_who_may_cast_it_only(reader, two_releases):
    path = f"/ethics/case/{reader.foundation.case(two_releases[1]).id}"
    _, mine = reader.both(path, "reviewer-1")
    assert "/do/ethics/vote/cast?case=" in mine and "/do/ethics/recusal/declare" in mine
    _, donor = reader.both(path, "laboratory-owner")
    assert "/do/ethics/vote/cast" not in donor
    reader.page(path, "hospital-owner", status=404)


def test_the_vote_link_leads_to_a_form_that_is_filled_in(reader, two_releases):
    case = reader.foundation.case(two_releases[1]).id
    html = reader.page(f"/ethics/case/{case}", "reviewer-1")
    href = re.search(r'href="(/do/ethics/vote/cast[^"]+)"', html)[1].replace("&amp;", "&")
    form = reader.page(href, "reviewer-1")
    assert f'value="{case}"' in form


def test_a_decided_case_shows_votes_rationales_conditions_figures_and_charts(reader, two_releases):
    case = reader.foundation.case(two_releases[0])
    zh, en = reader.both(f"/ethics/case/{case.id}")
    assert "The figures hold." in en and "Name the device." in en
    assert en.count('<figure class="picture">') == 2
    assert "thirds of the records" in en and "不是人群" in zh


def test_a_recused_reviewer_is_shown_with_the_organisation_they_belong_to(reader):
    reader.foundation.join("reviewer-1", "hospital")
    release = reader.foundation.submit(reader.foundation.dataset("hospital", "data-1", "wdbc"), org="hospital")
    reader.foundation.work()
    case = reader.foundation.case(release)
    zh, en = reader.both(f"/ethics/case/{case.id}", "reviewer-2")
    assert "belongs to Hospital" in en and "属于 Hospital" in zh
    given = {"case": case.id, "reason": "<b>A former colleague.</b>"}
    reader.foundation.do(ethics.declare_recusal, "reviewer-3", **given)
    assert "&lt;b&gt;A former colleague." in reader.page(f"/ethics/case/{case.id}", "reviewer-2")


def test_an_unreachable_quorum_is_said_on_the_page_and_the_donor_may_ask_again(reader):
    for name in BOARD[:3]:
        reader.foundation.join(name, "hospital")
    release = reader.foundation.submit(reader.foundation.dataset("hospital", "data-1", "wdbc"), org="hospital")
    reader.foundation.work()
    zh, en = reader.both(f"/ethics/case/{reader.foundation.case(release).id}", "hospital-owner")
    assert "more reviewers must be named" in en and "请增补审查人" in zh
    assert "/do/ethics/case/open?release=" in en


def test_release_two_says_better_but_not_significant_and_on_which_evidence(reader, two_releases):
    one, two = two_releases
    zh, en = reader.both(f"/ethics/evaluation/{two}")
    assert "better than the release before, but not significantly" in en and "p = 0.25" in en
    assert "比上一发布好，但不显著" in zh
    assert "3 became right and 0 became wrong" in en
    assert f'href="/ethics/evaluation/{one}"' in en
    _, first = reader.both(f"/ethics/evaluation/{one}")
    assert "release before" not in first


def test_a_failed_evaluation_shows_its_reason(reader):
    held_out = reader.foundation.dataset("keeper", "held-out", "unlabelled")
    release = reader.foundation.submit(reader.foundation.model(held_out=held_out))
    reader.foundation.work()
    zh, en = reader.both(f"/ethics/evaluation/{release}")
    assert "ethics.evaluation-data-not-found" in en
    assert "must hold exactly one file of records" in en and "evaluation-data" in zh
    case = reader.foundation.case(release).id
    assert "The evaluation failed" in reader.page(f"/ethics/case/{case}", "reviewer-1")


def test_an_evaluation_under_way_says_so(reader):
    release = reader.foundation.submit(reader.foundation.model())
    worker_has_only_delivered(reader.foundation)
    zh, en = reader.both(f"/ethics/evaluation/{release}")
    assert "under way" in en and "进行" in zh


def worker_has_only_delivered(foundation: Any) -> None:
    """Hand the submission to the review, as a delivery would, without running what it starts."""
    from sqlalchemy import select

    from gongqi.kernel.events import EventRow
    from gongqi.resources.hub.events import ReleaseSubmitted

    def deliver(ctx: Any) -> None:
        row = ctx.session.scalar(select(EventRow).where(EventRow.kind == ReleaseSubmitted.kind))
        ethics.on_submitted(ctx, ReleaseSubmitted(**row.payload))

    foundation.kernel.transact(deliver, reason="test")


def test_the_compliance_page_names_licences_class_and_what_is_missing(reader, two_releases):
    zh, en = reader.both(f"/compliance/{two_releases[0]}")
    assert "Class III, Open Model" in en and "evaluation data" in en
    assert "arXiv:2403.13784" in en and "model.onnx" in en
    assert "三级：开放模型" in zh and "评测数据" in zh


def test_the_figures_of_the_home_page_count_without_telling(reader, two_releases):
    kernel = reader.foundation.kernel
    assert kernel.look(ethics.open_cases) == 1
    assert kernel.look(ethics.finished_evaluations) == 2
