"""What is in tables is read once after the commit, and shown to whoever may have the files, and to nobody else."""

from __future__ import annotations

import gzip
import json
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from gongqi.chain.standards import flows, tables
from gongqi.chain.standards.models import Difference, Reading
from gongqi.doors.web.server import build as build_app
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.flows import FlowRow

BEFORE = b"id,name,score,old\n1,a,0.5,x\n2,b,1.5,x\n3,c,2.5,y\n"
AFTER = b"id,name,score,was\n1,a,0.5,z\n3,C,2.5,x\n4,d,high,y\n"
DESCRIPTION = {
    "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0", "name": "scores", "license": "CC-BY-4.0",
    "description": "Scores by hand", "url": "https://example.org", "citeAs": "Hospital A (2020)", "rai:dataBiases": "few",
    "distribution": {"@id": "t", "contentUrl": "data.csv", "encodingFormat": "text/csv", "sha256": "0" * 64},
    "recordSet": {"field": {
        "dataType": "sc:Text", "description": "the mark that was given",
        "source": {"fileObject": {"@id": "t"}, "extract": {"column": "score"}},
    }},
}  # fmt: skip


@pytest.fixture
def commit(market: Any) -> Any:
    """`commit(asset, **files)`: the next revision, of these files (`data_csv` is data.csv)."""

    def put(asset: str, files: dict[str, bytes]) -> str:
        brought = [market.bring("hospital", path, content, "datasets") for path, content in files.items()]
        return market.revision("hospital", asset, brought)

    return put


def shown(market: Any, revision: str, path: str = "data.csv", actor: Any = ANONYMOUS) -> Any:
    return market.ask(actor, "standards:table:preview", revision=revision, path=path)


def test_a_table_is_read_once_after_the_commit_and_not_in_the_request(market, commit, monkeypatch) -> None:
    asset = market.asset("hospital", "scores", "dataset")
    revision = commit(asset, {"data.csv": BEFORE, "more/data.csv.gz": gzip.compress(BEFORE, mtime=0)})
    with pytest.raises(Unavailable, match=r"standards\.table-not-read-yet"):
        shown(market, revision)
    listed = market.ask(ANONYMOUS, "standards:table:list", revision=revision).items
    assert [(each.path, each.state) for each in listed] == [("data.csv", "coming"), ("more/data.csv.gz", "coming")]
    market.work()
    found = shown(market, revision)
    assert (found.rows, found.read, found.is_whole) == (3, 3, True)
    assert [each.type for each in found.columns] == ["integer", "text", "number", "text"]
    assert found.head[0] == ["1", "a", "0.5", "x"] and found.columns[2].mean == 1.5
    assert shown(market, revision, "more/data.csv.gz").head == found.head
    monkeypatch.setattr(tables, "describe", lambda *_: pytest.fail("it has been read"))
    again = commit(asset, {"data.csv": BEFORE, "more/data.csv.gz": gzip.compress(BEFORE, mtime=0), "c.txt": b"c"})
    market.work()
    assert shown(market, again).columns == found.columns
    market.release("hospital", asset, again)
    market.work()


def test_a_preview_is_given_as_the_bytes_are(market, commit) -> None:
    secret = market.asset("hospital", "secret", "dataset", visibility="private")
    hidden = commit(secret, {"data.csv": BEFORE})
    asset = market.asset("hospital", "gated", "dataset")
    gated = commit(asset, {"data.csv": BEFORE, "croissant.json": json.dumps(DESCRIPTION).encode()})
    market.do(market.owner("hospital"), "hub:asset:gate", asset=asset, gated="manual")
    market.work()
    reads = [
        ("standards:table:list", {}), ("standards:table:preview", {"path": "data.csv"}), ("standards:description:show", {}),
    ]  # fmt: skip
    outsiders = ((ANONYMOUS, "hub.asset-gated-sign-in"), (market.owner("laboratory"), "hub.asset-gated"))
    for actor, code in outsiders:
        for read, more in reads:
            for revision, refused_with in ((hidden, "access.not-found"), (gated, code)):
                with pytest.raises(Refused) as refused:
                    market.ask(actor, read, revision=revision, **more)
                assert refused.value.code == refused_with, (read, revision)
        with pytest.raises(Refused) as refused:
            market.ask(actor, "standards:table:compare", before=gated, after=gated)
        assert refused.value.code == code
    client = TestClient(build_app(market.kernel, ()))
    page = client.get(f"/hub/asset/{asset}")
    assert page.status_code == 200 and "/standards/table/" not in page.text and "Scores by hand" not in page.text
    assert client.get(f"/standards/table/{gated}/data.csv").status_code in (401, 403)
    assert client.get(f"/standards/table/{hidden}/data.csv").status_code == 404
    own = market.owner("hospital")
    assert shown(market, hidden, actor=own).rows == shown(market, gated, actor=own).rows == 3
    market.do(own, "hub:access:grant", asset=asset, party="per_laboratory")
    assert shown(market, gated, actor=market.owner("laboratory")).rows == 3


def test_what_cannot_be_shown_says_why(market, commit, monkeypatch) -> None:
    asset = market.asset("hospital", "odd", "dataset")
    revision = commit(asset, {"no.csv": b"a,a\n1,2\n", "notes.txt": b"x"})
    market.work()
    monkeypatch.setattr(tables, "MEMORY_BYTES", 1 << 20)
    second = commit(asset, {"much.csv": BEFORE})
    market.work()
    for key, path, code in (
        (revision, "no.csv", "standards.no-table"), (revision, "notes.txt", "standards.no-table"),
        (revision, "gone.csv", "hub.file-absent"), (second, "much.csv", "standards.table-too-much"),
    ):  # fmt: skip
        with pytest.raises(Refused) as refused:
            shown(market, key, path)
        assert refused.value.code == code
    states = [each.state for each in market.ask(ANONYMOUS, "standards:table:list", revision=second).items]
    assert states == ["too-much"]
    client = TestClient(build_app(market.kernel, ()), headers={"accept-language": "en"})
    assert "too much to be read" in client.get(f"/standards/table/{second}/much.csv").text
    assert "is called a table and is none" in client.get(f"/standards/table/{revision}/notes.txt").text
    with pytest.raises(Refused, match=r"standards\.no-description"):
        market.ask(ANONYMOUS, "standards:description:show", revision=revision)


@pytest.mark.heavy
def test_what_changed_in_a_table_is_told_column_by_column_and_row_by_row(market, commit) -> None:
    asset = market.asset("hospital", "scores", "dataset")
    first, second = (
        commit(asset, {"data.csv": BEFORE, "same.csv": BEFORE}),
        commit(asset, {"data.csv": AFTER, "same.csv": BEFORE}),
    )
    changed = lambda: market.ask(ANONYMOUS, "standards:table:compare", before=first, after=second)  # noqa: E731
    assert [(each.path, each.state) for each in changed().tables] == [("data.csv", "coming")]
    market.work()
    [found] = changed().tables
    assert (found.state, found.rows_before, found.rows_after) == ("compared", 3, 3)
    assert (found.added, found.removed, found.retyped) == (["was"], ["old"], [("score", "number", "text")])
    assert found.rows is not None and found.rows.key == "id"
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (1, 1, 1)
    assert found.rows.by_column == [("name", 1)] and found.rows.changed_rows == [("3", [("name", "c", "C")])]
    assert found.rows.added_rows == [["4", "d", "high"]] and found.rows.removed_rows == [["2", "b", "1.5"]]
    third = commit(asset, {"data.csv": AFTER.replace(b"was", b"now"), "same.csv": BEFORE})
    fourth = commit(asset, {"data.csv": b"score,name\n1,a\n1,a\n", "same.csv": BEFORE})
    market.work()
    [far] = market.ask(ANONYMOUS, "standards:table:compare", before=first, after=third).tables
    assert (far.state, far.added, far.removed, far.rows) == ("unasked", ["now"], ["old"], None)
    [named] = market.ask(ANONYMOUS, "standards:table:compare", before=second, after=third).tables
    assert (named.renamed, named.added, named.removed) == ([("was", "now")], [], [])
    assert named.rows is not None and (named.rows.added, named.rows.removed, named.rows.changed) == (0, 0, 0)
    [bag] = market.ask(ANONYMOUS, "standards:table:compare", before=third, after=fourth).tables
    assert bag.rows is not None and (bag.rows.key, bag.rows.added, bag.rows.removed, bag.rows.changed) == (
        None,
        2,
        3,
        None,
    )


@pytest.mark.heavy
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_pages_read_whole_in_each_language(market, commit, language: str) -> None:
    asset = market.asset("hospital", "scores", "dataset")
    described = json.dumps(DESCRIPTION).encode()
    first = commit(asset, {"data.csv": BEFORE, "croissant.json": described})
    second = commit(asset, {"data.csv": AFTER, "croissant.json": described})
    client = TestClient(build_app(market.kernel, ()), headers={"accept-language": language})
    addresses = [
        f"/hub/asset/{asset}", f"/hub/revision/{first}", f"/standards/table/{second}/data.csv",
        f"/hub/changes/{first}/{second}",
    ]  # fmt: skip
    for _ in range(2):  # before anything was read, and after
        for address in addresses:
            page = client.get(address)
            assert page.status_code == 200, (address, page.text[-500:])
            assert "standards." not in page.text.replace("/standards", ""), address
            assert "hub.changes" not in page.text and "{" not in page.text.partition("<main")[2].partition("</main")[0]
            assert " style=" not in page.text
        market.work()
    page = client.get(f"/hub/asset/{asset}").text
    for address in (f"/hub/asset/{asset}/revisions", f"/hub/revision/{second}"):
        assert f'href="/hub/changes/{first}/{second}"' in client.get(address).text
    assert f'href="/standards/table/{second}/data.csv"' in page
    assert "Scores by hand" in page and "rai:dataBiases" in page and "Hospital A (2020)" in page
    assert {"zh": "SHA-256 与所述不同", "en": "SHA-256 of data.csv is not the one it gives"}[language] in page
    page = client.get(f"/standards/table/{first}/data.csv").text
    assert "the mark that was given" in page and page.count("<svg") > 2
    assert {"zh": "捐赠者说", "en": "As the donor says"}[language] in page
    page = client.get(f"/hub/changes/{first}/{second}").text
    assert {"zh": "增 1 行，删 1 行，改 1 行", "en": "1 added, 1 removed, 1 changed"}[language] in page


def test_a_table_whose_bytes_are_lost_does_not_hold_up_the_others(market, commit) -> None:
    asset = market.asset("hospital", "scores", "dataset")
    revision = commit(asset, {"data.csv": BEFORE, "lost.csv": AFTER})
    market.kernel.blobs.path(sha256(AFTER).hexdigest()).unlink()
    market.work()
    states = {each.path: each.state for each in market.ask(ANONYMOUS, "standards:table:list", revision=revision).items}
    assert states == {"data.csv": "read", "lost.csv": "coming"}


def test_what_was_committed_before_this_recipe_is_read_by_the_day(market, commit, monkeypatch) -> None:
    asset = market.asset("hospital", "scores", "dataset")
    revision = commit(asset, {"data.csv": BEFORE})
    market.work()

    def forget(ctx: Any) -> None:
        for each in ctx.session.query(Reading).all():
            ctx.session.delete(each)
        for flow in ctx.session.query(FlowRow).filter(FlowRow.kind == flows.READ).all():
            ctx.session.delete(flow)

    market.kernel.transact(forget, reason="test")
    monkeypatch.setattr(flows, "AT_ONCE", 1)
    market.kernel.transact(lambda ctx: ctx.start_flow(flows.READ_OLDER, key="now"), reason="test")
    market.work()
    assert shown(market, revision).rows == 3


def test_what_was_read_goes_with_the_files(market, commit) -> None:
    kept, gone = market.asset("hospital", "kept", "dataset"), market.asset("hospital", "gone", "dataset")
    revision = commit(kept, {"data.csv": BEFORE})
    commit(gone, {"data.csv": BEFORE, "more.csv": AFTER})
    commit(gone, {"data.csv": BEFORE, "more.csv": BEFORE})
    market.work()
    held = lambda: market.kernel.look(  # noqa: E731
        lambda ctx: (
            len(ctx.session.scalars(select(Reading)).all()),
            len(ctx.session.scalars(select(Difference)).all()),
        )
    )
    assert held() == (2, 1)
    market.do(market.owner("hospital"), "hub:asset:delete", asset=gone)
    market.kernel.transact(lambda ctx: ctx.start_flow(flows.FORGET, key="now"), reason="test")
    market.work()
    assert held() == (1, 0) and shown(market, revision).rows == 3
