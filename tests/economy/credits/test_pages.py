"""The pages of serving, scenarios and credits: whole in both languages, for a stranger and for those concerned."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from gongqi.doors.web.server import build as build_app
from gongqi.kernel.access import ANONYMOUS

WEIGHTS = {"service": 2000, "model": 3500, "datasets": 2500, "compute": 1000, "foundation": 1000}
RAW = re.compile(r">\s*((?:serving|credits|scenarios|standards|web)\.[a-z.-]+)\s*<")


@pytest.fixture
def lived(market):
    """A market in which everything has happened once."""
    market.do(market.operator, "credits:policy:publish", **WEIGHTS)
    deployment = market.served()
    market.fund(1000)
    market.budget(deployment, 900)
    call = market.infer([(1.0, 2.0)] * 50)["parameters"]["call"]
    given = {"deployment": deployment.id, "org": market.orgs["application"]}
    market.do(market.owner("application"), "scenarios:agreement:sign", **given)
    told = {"deployment": deployment.id, "call": call}
    told["records"] = [{"row": 0, "record": "s-1", "features": {"a": 1, "b": 2}, "label": 1}]
    market.do(market.owner("application"), "scenarios:outcome:report", **told)
    back = {"deployment": deployment.id, "asset": market.data[0]}
    market.do(market.owner("hospital"), "scenarios:return:start", **back)
    market.work()
    split = market.ask(market.operator, "credits:split:list").items[0]
    paths = ["/serving", f"/serving/deployment/{deployment.id}", "/credits", f"/credits/split/{split.id}", "/scenarios"]
    return market, [*paths, f"/serving/call/{call}"]


@pytest.fixture
def operator(lived):
    """A browser in which somebody with every right in the foundation is signed in."""
    market, _ = lived
    person = market.do(market.operator, "members:person:create", handle="visitor", name="Visitor")
    market.do(market.operator, "members:membership:grant", party=person.id, org="*", role="operator")
    link = market.do(market.operator, "members:signin:link", party=person.id).link
    redeemed = market.do(ANONYMOUS, "members:signin:redeem", secret=link.rsplit("/", 1)[1])
    return TestClient(build_app(market.kernel), cookies={"gongqi_session": redeemed.secret})


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_is_whole_for_the_operator(lived, operator, language):
    _, paths = lived
    for path in paths:
        page = operator.get(path, params={"lang": language})
        assert page.status_code == 200, page.text[:2000]
        assert not RAW.search(page.text), (path, RAW.findall(page.text))
        assert "None" not in re.sub(r"<[^>]*>", "", page.text), path


def test_a_stranger_sees_prices_and_policies_but_nobodys_money(lived):
    market, paths = lived
    stranger = TestClient(build_app(market.kernel))
    codes = [stranger.get(path).status_code for path in paths]
    assert codes == [200, 200, 200, 404, 200, 404]
    page = stranger.get(paths[1]).text
    assert "/v2/models/diagnosis/infer" in page and "True outcomes may be sent back." in page
    assert market.orgs["application"] not in page


def test_the_page_of_a_call_shows_its_receipt_checked(lived, operator):
    _, paths = lived
    page = operator.get(paths[5], params={"lang": "en"}).text
    assert "The text has the digest that the log holds" in page and "&#34;rows&#34;:50" in page


def test_the_page_of_a_split_shows_every_part_and_its_receiver(lived, operator):
    _, paths = lived
    page = operator.get(paths[3], params={"lang": "en"}).text
    for words in (
        "Hospital",
        "Laboratory",
        "Foundation",
        "0.37",
        "0.53",
        "0.3750",
        "Where the fee went",
        "<svg",
        "Receipt",
    ):
        assert words in page
