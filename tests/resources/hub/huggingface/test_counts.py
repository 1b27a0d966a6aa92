"""Downloads through a server that serves: what the client does counts once, wherever it is told."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi

from gongqi.kernel.errors import Unavailable
from gongqi.resources.hub import tally
from gongqi.resources.hub.models import DownloadMark, Popularity
from tests.resources.hub.huggingface.bringing import rows

pytestmark = pytest.mark.heavy

FILES = {"a.txt": b"one\n", "b.txt": b"two\n"}


@pytest.fixture
def filled(api: HfApi, repo: str) -> str:
    for path, content in FILES.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo)
    return repo


def downloads(hub: Any, repo: str) -> tuple[int, int]:
    tally.bring_home(hub.kernel)
    info = hub.api().model_info(repo)
    return info.downloads, info.downloads_all_time


def test_a_snapshot_taken_twice_is_one_download_and_another_client_is_another(
    hub: Any, filled: str, tmp_path: Any
) -> None:
    assert downloads(hub, filled) == (0, 0)
    for number in (1, 2):
        hub.api().snapshot_download(filled, local_dir=tmp_path / f"{number}")
    assert downloads(hub, filled) == (1, 1)
    hub.api(hub.reader).hf_hub_download(filled, "a.txt", local_dir=tmp_path / "reader")
    assert downloads(hub, filled) == (2, 2)
    told = hub.reader.read("hub:download:get", hub.asset(hub.donor, filled)["id"])
    assert (told["recent"], told["total"], [each["total"] for each in told["revisions"]]) == (2, 2, [2])


def test_looking_resuming_and_mirroring_are_no_downloads(hub: Any, filled: str) -> None:
    address = f"{hub.foundation.url}/{filled}/resolve/main/a.txt"
    with httpx.Client(trust_env=False) as http:
        etag = http.head(address).headers["etag"]
        assert http.get(address, headers={"if-none-match": etag}).status_code == 304
        assert http.get(address, headers={"user-agent": "gongqi-mirror/1"}).status_code == 200
        assert http.get(f"{address}-absent").status_code == 404
        assert downloads(hub, filled) == (0, 0)
        for start in (0, 1, 2):
            assert http.get(address, headers={"range": f"bytes={start}-"}).status_code == 206
    assert downloads(hub, filled) == (1, 1)


def test_every_door_counts_the_same_client_once(hub: Any, filled: str) -> None:
    asset = hub.asset(hub.donor, filled)["id"]
    revision = hub.donor.read("hub:revision:list", asset=asset)["items"][0]["id"]
    with httpx.Client(base_url=hub.foundation.url, trust_env=False) as http:
        answer = http.get(f"/api/v1/hub/revision/{revision}/file/a.txt")
        assert (answer.status_code, downloads(hub, filled)) == (200, (1, 1))
        told = http.get(f"/v2/{filled}/manifests/latest").json()
        for layer in told["layers"]:
            assert http.get(f"/v2/{filled}/blobs/{layer['digest']}").status_code == 200
        assert http.get(f"/{filled}/resolve/main/a.txt").status_code == 200
    assert downloads(hub, filled) == (1, 1)
    page = httpx.get(f"{hub.foundation.url}/hub/asset/{asset}?lang=en", trust_env=False).text
    assert "1 in the last 30 days, 1 in all" in page


def test_what_is_downloaded_most_comes_first_and_pages_hold(hub: Any, api: HfApi, monkeypatch: Any) -> None:
    names = [f"north/popular-{n}" for n in range(4)]
    for name in names:
        api.create_repo(name, private=False)
        api.upload_file(path_or_fileobj=b"x\n", path_in_repo="x.txt", repo_id=name)
    for name, clients in ((names[1], (None, hub.reader, hub.other)), (names[0], (None,))):
        for person in clients:
            headers = {"authorization": f"Bearer {person.secret}"} if person else {}
            httpx.get(f"{hub.foundation.url}/{name}/resolve/main/x.txt", headers=headers, trust_env=False)
    tally.bring_home(hub.kernel)
    wanted = [names[1], names[0], names[3], names[2]]
    given: Any = {"search": "popular", "author": "north"}
    assert [each.id for each in hub.api().list_models(sort="downloads", **given)] == wanted
    from gongqi.resources.hub.huggingface import repositories

    monkeypatch.setattr(repositories, "LISTED", 1)
    assert [each.id for each in hub.api().list_models(sort="downloads", **given)] == wanted
    api.upload_file(path_or_fileobj=b"y\n", path_in_repo="y.txt", repo_id=names[2])
    changed = [each.id for each in hub.api().list_models(sort="last_modified", **given)]
    assert changed == [names[2], names[3], names[1], names[0]]
    sorted_by = hub.reader.read("hub:asset:search", q="popular", sort="downloads", limit=1)["items"]
    assert [each["slug"] for each in sorted_by] == ["popular-1"]


def test_what_cannot_be_written_now_is_held_until_it_can(hub: Any, filled: str, monkeypatch: Any) -> None:
    assert httpx.get(f"{hub.foundation.url}/{filled}/resolve/main/a.txt", trust_env=False).status_code == 200
    transact = hub.kernel.transact

    def full(*_: Any, **__: Any) -> None:
        raise Unavailable("kernel.disk-full", retry_after_seconds=1)

    monkeypatch.setattr(hub.kernel, "transact", full)
    kept = rows(hub, of=Popularity)
    with pytest.raises(Unavailable):
        tally.bring_home(hub.kernel)
    monkeypatch.setattr(hub.kernel, "transact", transact)
    assert rows(hub, of=Popularity) == kept
    assert downloads(hub, filled) == (1, 1)


def test_a_tally_holds_no_more_than_it_must(hub: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tally, "MAX_HELD", 2)
    made = tally.Tally()
    for mark in (b"1", b"1", b"2", b"3"):
        made.add(1, mark, "asset", "revision")
    assert sorted(made.take()) == [b"1", b"2"] and made.take() == {}


def test_who_it_was_is_not_kept(hub: Any, filled: str) -> None:
    hub.api(hub.reader).hf_hub_download(filled, "a.txt", local_dir=hub.folder / "kept")
    tally.bring_home(hub.kernel)
    assert {column.name for column in DownloadMark.__table__.columns} == {"mark", "day"}
    with hub.kernel.db.reading() as session:
        marks = [row.mark for row in session.query(DownloadMark)]
    assert marks and all(len(mark) == 16 and hub.reader.party.encode() not in mark for mark in marks)
