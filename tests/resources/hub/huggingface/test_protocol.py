"""What the client does not do by itself: requests cut, forged, too large and too many; headers that caches rest on."""

from __future__ import annotations

import asyncio
import json
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import anyio
import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import parse_ratelimit_headers
from starlette.routing import Match

from gongqi.kernel.errors import Refused
from gongqi.resources.hub import models, tickets
from gongqi.resources.hub.huggingface import limits, lines

CARD = b"---\nlicense: mit\n---\n# A model\n"
BYTES = bytes(range(256)) * 40


@pytest.fixture
def http(hub: Any) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {hub.donor.secret}"}
    with httpx.Client(base_url=hub.foundation.url, headers=headers, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def anyone(hub: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=hub.foundation.url, trust_env=False, timeout=60) as client:
        yield client


def line(key: str, **value: Any) -> bytes:
    return json.dumps({"key": key, "value": value}).encode() + b"\n"


HEADER = line("header", summary="a commit")


def inside(path: str, content: bytes) -> bytes:
    return line("file", path=path, content=b64encode(content).decode(), encoding="base64")


def commit(http: httpx.Client, repo: str, *sent: bytes, branch: str = "main", **query: str) -> httpx.Response:
    return http.post(f"/api/models/{repo}/commit/{branch}", content=b"".join(sent), params=query)


def batch(http: httpx.Client, repo: str, content: bytes, size: int | None = None) -> dict[str, Any]:
    wanted = {"oid": sha256(content).hexdigest(), "size": len(content) if size is None else size}
    asked = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [wanted]}
    answer = http.post(f"/{repo}.git/info/lfs/objects/batch", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["objects"][0]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ---- downloads


@pytest.mark.heavy
def test_a_file_is_sent_whole_in_part_or_not_at_all(http: httpx.Client, anyone: httpx.Client, repo: str) -> None:
    made = commit(http, repo, HEADER, inside("a b.txt", b"0123456789")).json()
    address = f"/{repo}/resolve/main/a%20b.txt"
    head = anyone.head(address)
    etag = f'"{sha256(b"0123456789").hexdigest()}"'
    assert (head.headers["etag"], head.headers["x-repo-commit"]) == (etag, made["commitOid"])
    assert head.headers["content-length"] == head.headers["x-linked-size"] == "10"
    assert "x-xet-hash" not in head.headers
    part = anyone.get(address, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert anyone.get(address, headers={"if-none-match": etag}).status_code == 304
    absent = anyone.get(f"/{repo}/resolve/main/nothing")
    assert absent.headers["x-error-code"] == "EntryNotFound"
    assert absent.headers["x-repo-commit"] == made["commitOid"]
    folder = anyone.get(f"/{repo}/resolve/{made['commitOid']}/")
    assert folder.headers["x-error-code"] == "EntryNotFound"


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("/north/nothing/resolve/main/a", "RepoNotFound"),
        ("/nobody/nothing/resolve/main/a", "RepoNotFound"),
        ("/north%2Fnothing/resolve/main/a", "RepoNotFound"),
        ("/api/models/north/nothing/tree/main", "RepoNotFound"),
        ("/api/datasets/north/{repo}", "RepoNotFound"),
        ("/{repo}/resolve/feature%2Fx/a", "RevisionNotFound"),
        ("/{repo}/resolve/main/..%2F..%2Fetc%2Fpasswd", "EntryNotFound"),
        ("/{repo}/resolve/main/%FF", "EntryNotFound"),
        ("/{repo}/resolve/main/a%00", "EntryNotFound"),
        ("/api/models/{repo}/tree/main/a%00", "EntryNotFound"),
    ],
)
def test_what_is_not_there_is_said_in_the_words_of_the_protocol(
    anyone: httpx.Client, repo: str, address: str, named: str
) -> None:
    answer = anyone.get(address.replace("north/{repo}", "{repo}").format(repo=repo))
    assert answer.status_code == 404, answer.text
    assert answer.headers["x-error-code"] == named


@pytest.mark.heavy
def test_what_is_closed_moved_or_changed_is_so_with_the_next_question(
    hub: Any, http: httpx.Client, anyone: httpx.Client, repo: str
) -> None:
    """Files and descriptions are answered many at a time and by the shortest way; never from memory."""
    file, description = f"/{repo}/resolve/main/a.txt", f"/api/models/{repo}"
    first = commit(http, repo, HEADER, inside("a.txt", b"one\n"), inside("README.md", CARD)).json()["commitOid"]
    assert (anyone.get(file).content, anyone.get(description).json()["sha"]) == (b"one\n", first)
    second = commit(http, repo, HEADER, inside("a.txt", b"two\n")).json()["commitOid"]
    assert (anyone.get(file).content, anyone.get(description).json()["sha"]) == (b"two\n", second)
    assert anyone.get(f"/{repo}/resolve/{first}/a.txt").content == b"one\n"
    assert anyone.get(f"{description}/revision/{first}").json()["sha"] == first
    tag = f"/api/models/{repo}/tag/{first}"
    http.post(tag, json={"tag": "1.0"}).raise_for_status()
    assert anyone.get(f"/{repo}/resolve/1.0/a.txt").content == b"one\n"

    http.put(f"/api/models/{repo}/settings", json={"gated": "manual"}).raise_for_status()
    assert code(anyone.get(file))[1] == "hub.asset-gated-sign-in"
    assert anyone.get(description).json()["gated"] == "manual"
    http.put(f"/api/models/{repo}/settings", json={"gated": False, "private": True}).raise_for_status()
    for address in (file, description):
        assert (anyone.get(address).status_code, anyone.head(address).status_code) == (404, 404)
        assert http.get(address).status_code == 200
    http.put(f"/api/models/{repo}/settings", json={"private": False}).raise_for_status()
    http.post("/api/repos/move", json={"fromRepo": repo, "toRepo": f"{repo}-2"}).raise_for_status()
    for address in (file, description):
        assert anyone.get(address).headers["location"].startswith(address.replace(repo, f"{repo}-2"))


def test_who_sends_a_token_that_is_not_good_is_told_so_beside_others(
    anyone: httpx.Client, http: httpx.Client, repo: str
) -> None:
    commit(http, repo, HEADER, inside("a.txt", b"a\n"), inside("README.md", CARD)).raise_for_status()
    address = f"/{repo}/resolve/main/a.txt"

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=anyone.base_url, trust_env=False) as client:
            tokens = [{}, {"authorization": "Bearer gq_" + "0" * 43}, {"authorization": "Basic abc"}] * 10
            answers = await asyncio.gather(*(client.get(address, headers=headers) for headers in tokens))
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [200, 401, 401] * 10


def test_the_short_way_leads_where_the_router_leads(hub: Any) -> None:
    fork = hub.foundation.fork
    for path in (
        "/a/b/resolve/main/c", "/datasets/a/b/resolve/main/c/d", "/api/models/a/b", "/api/datasets/a/b",
        "/api/models/a/b/revision/refs%2Fpr%2F1", "/datasets/a/resolve/resolve/main/c", "/api/models/resolve/x",
        "/api/models/a/b/tree/main", "/api/models", "/hub", "/health", "/static/a/resolve/b", "/v2/a/resolve/b/c",
    ):  # fmt: skip
        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
        short = fork.protocols.shortcut(dict(scope))
        first = next((route for route in fork.app.routes if route.matches(dict(scope))[0] == Match.FULL), None)
        assert short is (first.app if first in fork.protocols.short else None), path


def test_a_release_that_was_withdrawn_takes_its_files_along_and_says_why(
    hub: Any, http: httpx.Client, anyone: httpx.Client, repo: str
) -> None:
    oid = commit(http, repo, HEADER, inside("a.txt", b"a\n"), inside("README.md", CARD)).json()["commitOid"]
    asset = hub.asset(hub.donor, repo)["id"]
    revision = hub.donor.read("hub:revision:list", asset=asset)["items"][0]["id"]
    release = hub.donor.verb("hub:release:draft", asset=asset, revision=revision, name="1.0.0")["id"]

    def publish(ctx: Any) -> None:
        row = ctx.session.get(models.Release, release)
        row.state, row.published_at = "published", ctx.now

    hub.kernel.transact(publish, reason="as if every gate had said yes")
    assert anyone.get(f"/{repo}/resolve/main/a.txt").content == b"a\n"
    assert code(http.request("DELETE", "/api/repos/delete", json={"name": repo})) == (409, "hub.asset-released")
    moved = http.post("/api/repos/move", json={"fromRepo": repo, "toRepo": "south/elsewhere"})
    assert code(moved) == (403, "access.forbidden")
    hub.donor.verb("hub:release:withdraw", release=release, reason="a record was wrong")
    gone = anyone.get(f"/{repo}/resolve/{oid}/a.txt")
    assert code(gone) == (410, "hub.release-withdrawn")
    assert "a record was wrong" in gone.headers["x-error-message"]
    assert http.get(f"/{repo}/resolve/main/a.txt").content == b"a\n"  # its own people look into it


# ---- commits


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"not json\n", "hub.hf-line-invalid"),
        (b"[1]\n", "hub.hf-line-invalid"),
        (line("unheardOf", path="a"), "hub.hf-line-invalid"),
        (line("file", path="a.txt", content="%%%"), "hub.hf-line-invalid"),
        (line("file", path=7), "hub.hf-body-invalid"),
        (line("lfsFile", path="a.bin2", oid="short"), "hub.hf-body-invalid"),
        (line("lfsFile", path="a.bin2", oid="0" * 64), "hub.blob-unknown"),
        (inside("../a.txt", b"a"), "hub.path-traversal"),
        (inside("/etc/passwd", b"a"), "hub.path-absolute"),
        (line("lfsFile", path="../a", oid="0" * 64), "hub.path-traversal"),
        (inside("A.txt", b"a") + inside("a.txt", b"b"), "hub.path-twin"),
        (inside("\u212b.txt", b"a"), "hub.path-not-nfc"),
        (inside("model.pkl", b"a"), "hub.pickle"),
        (inside("README.md", b"---\na: 1\n---\n" + b"words " * 500_000), "hub.card-too-large"),
        (line("deletedFile", path="nowhere.txt"), "hub.file-absent"),
        (line("header", summary="x", parentCommit="0" * 40), "hub.revision-conflict"),
    ],
)
def test_a_commit_that_cannot_be_says_why_and_changes_nothing(
    http: httpx.Client, anyone: httpx.Client, repo: str, sent: bytes, said: str
) -> None:
    before = anyone.get(f"/api/models/{repo}").json()["sha"]
    answer = commit(http, repo, HEADER, inside("fine.txt", b"fine"), sent)
    assert answer.json()["code"] == said and 400 <= answer.status_code < 500
    assert answer.headers["x-error-message"]
    assert anyone.get(f"/api/models/{repo}").json()["sha"] == before


@pytest.mark.parametrize(
    ("chunk", "said"),
    [(line("deletedFile", path="a") * 1000, "hub.hf-lines-too-many"), (b"A" * 100_000, "hub.hf-line-too-long")],
)
def test_a_million_lines_and_an_endless_one_are_refused_while_they_come(chunk: bytes, said: str) -> None:
    came = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal came
        while True:
            came += len(chunk)
            yield chunk

    async def read() -> None:
        async for _ in lines.read_lines(endless()):
            pass

    with pytest.raises(Refused, match=said):
        anyio.run(read)
    assert came < 10_000_000


def test_more_lines_than_a_commit_may_have_change_nothing(http: httpx.Client, repo: str) -> None:
    answer = commit(http, repo, HEADER, line("deletedFile", path="a") * lines.LINES)
    assert code(answer) == (413, "hub.hf-lines-too-many")


def test_a_commit_that_was_cut_leaves_nothing(hub: Any, http: httpx.Client, repo: str) -> None:
    with socket.create_connection(("127.0.0.1", hub.foundation.port)) as raw:
        head = f"POST /api/models/{repo}/commit/main HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n"
        head += f"authorization: Bearer {hub.donor.secret}\r\n\r\n"
        raw.sendall(head.encode() + HEADER + inside("a.txt", b"half"))
    assert http.get(f"/api/models/{repo}").json()["siblings"] == []


def test_pull_requests_and_rewritten_history_are_not_to_be_had(http: httpx.Client, repo: str) -> None:
    assert code(commit(http, repo, HEADER, create_pr="1")) == (403, "hub.hf-no-pull-requests")
    assert code(http.post(f"/api/models/{repo}/super-squash/main", json={})) == (403, "hub.hf-no-squash")


def test_of_ten_commits_at_once_on_one_parent_one_is_made(http: httpx.Client, hub: Any, repo: str) -> None:
    base = http.get(f"/api/models/{repo}").json()["sha"]
    header = line("header", summary="race", parentCommit=base)

    def race(number: int) -> int:
        with httpx.Client(base_url=http.base_url, headers=http.headers, trust_env=False, timeout=60) as client:
            return commit(client, repo, header, inside(f"{number}.txt", b"mine")).status_code

    with ThreadPoolExecutor(10) as pool:
        told = sorted(pool.map(race, range(10)))
    assert told == [200] + [412] * 9
    assert len(http.get(f"/api/models/{repo}").json()["siblings"]) == 1


# ---- bytes


def test_bytes_go_where_the_ticket_says_and_nowhere_else(
    hub: Any, http: httpx.Client, anyone: httpx.Client, repo: str
) -> None:
    told = batch(http, repo, BYTES)
    href = told["actions"]["upload"]["href"].removeprefix(hub.foundation.url)
    verify = told["actions"]["verify"]["href"].removeprefix(hub.foundation.url)
    assert code(anyone.post(verify, json={"oid": told["oid"], "size": told["size"]}))[1] == "hub.blob-unknown"
    assert code(anyone.put(href, content=BYTES[:-1])) == (400, "hub.hf-size-differs")
    assert code(anyone.put(href, content=BYTES[::-1]))[1] == "kernel.digest-mismatch"
    assert code(anyone.put(href[:-4] + "AAAA", content=BYTES)) == (403, "hub.ticket-invalid")
    assert code(anyone.put("/api/lfs/%21%21", content=BYTES)) == (403, "hub.ticket-invalid")
    assert anyone.put(href, content=BYTES).status_code == 200
    assert anyone.put(href, content=BYTES).status_code == 200  # twice is once
    assert anyone.post(verify, json={"oid": told["oid"], "size": told["size"]}).status_code == 200
    assert "actions" not in batch(http, repo, BYTES)


def test_an_upload_cut_anywhere_leaves_nothing_and_can_be_sent_again(
    hub: Any, http: httpx.Client, anyone: httpx.Client, repo: str
) -> None:
    content = BYTES * 20 + repo.encode()
    href = batch(http, repo, content)["actions"]["upload"]["href"].removeprefix(hub.foundation.url)
    for tenth in range(10):
        with socket.create_connection(("127.0.0.1", hub.foundation.port)) as raw:
            raw.sendall(f"PUT {href} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n".encode())
            raw.sendall(content[: len(content) * tenth // 10])
        assert code(anyone.post(href, json={}))[1] == "hub.blob-unknown"
    assert not hub.kernel.blobs.has(sha256(content).hexdigest())
    assert anyone.put(href, content=content).status_code == 200
    assert anyone.post(href, json={}).status_code == 200


def test_bytes_of_another_organisation_are_neither_told_nor_given(hub: Any, http: httpx.Client, repo: str) -> None:
    content = BYTES + b"the north's own"
    told = batch(http, repo, content)
    assert http.put(told["actions"]["upload"]["href"], content=content).status_code == 200
    api: HfApi = hub.api(hub.other)
    api.create_repo("south/thief", exist_ok=True)
    with httpx.Client(
        base_url=hub.foundation.url, headers={"authorization": f"Bearer {hub.other.secret}"}, trust_env=False
    ) as other:
        assert "actions" in batch(other, "south/thief", content)
        named = line("lfsFile", path="stolen.bin2", oid=sha256(content).hexdigest(), algo="sha256")
        assert code(commit(other, "south/thief", HEADER, named)) == (422, "hub.blob-unknown")
        assert code(other.post(f"/{repo}.git/info/lfs/objects/batch", json={"operation": "upload", "objects": []}))[
            0
        ] == (403)


def test_a_ticket_ends_with_its_hour_and_with_the_token_it_rests_on(hub: Any, repo: str) -> None:
    kernel = hub.kernel
    agent = hub.donor.verb(
        "members:agent:create", handle=f"agent-{repo[-30:]}", name="a", org=hub.north, role="maintainer"
    )
    issued = hub.donor.verb("members:token:issue", party=agent["id"], label="ci")
    with httpx.Client(
        base_url=hub.foundation.url, headers={"authorization": f"Bearer {issued['secret']}"}, trust_env=False
    ) as client:
        href = batch(client, repo, BYTES + b"late")["actions"]["upload"]["href"]
        hub.donor.verb("members:token:revoke", token=issued["id"])
        assert client.put(href, content=BYTES + b"late", headers={"authorization": ""}).status_code == 401
    late = tickets.issue(kernel, "hub.upload", seconds=-1)
    with pytest.raises(Refused, match="ticket-expired"):
        tickets.accept(kernel, "hub.upload", late)
    with pytest.raises(Refused, match="ticket-invalid"):
        tickets.accept(kernel, "another-purpose", tickets.issue(kernel, "hub.upload", seconds=60))


def test_what_has_no_room_is_told_before_it_travels(hub: Any, http: httpx.Client, repo: str) -> None:
    told = batch(http, repo, b"", size=1 << 35)
    assert "actions" in told
    hub.foundation.operator.verb("hub:quota:set", org=hub.north, limit_bytes=1 << 20)
    try:
        refused = batch(http, repo, b"x", size=1 << 35)
        assert refused["error"]["code"] == 413 and "actions" not in refused
    finally:
        hub.foundation.operator.verb("hub:quota:set", org=hub.north, limit_bytes=None)


# ---- the rest


def test_who_asks_too_often_is_told_when_to_come_back(hub: Any, http: httpx.Client, anyone: httpx.Client) -> None:
    kept = hub.kernel.parts.get(limits.Limits)
    hub.kernel.parts[limits.Limits] = limits.Limits({"api": 2, "resolvers": 2})
    try:
        told = [anyone.get("/api/models").status_code for _ in range(3)]
        assert told[:1] == [200] and 429 in (told[2], anyone.get("/api/models").status_code)
        last = anyone.get("/api/models")
        info = parse_ratelimit_headers(last.headers)
        assert info is not None and (info.resource_type, info.remaining, info.limit) == ("api", 0, 2)
        assert 0 < int(last.headers["retry-after"]) <= 60 and last.json()["error"]
        assert http.get("/api/whoami-v2").status_code == 200  # another caller has a share of their own
    finally:
        hub.kernel.parts[limits.Limits] = kept


def test_a_window_forgets_and_holds_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    made = limits.Limits({"api": 1})
    assert [made.count("api", "a", now=0.0) for _ in range(2)] == [0, -1]
    assert made.count("api", "a", now=60.0) == 0
    monkeypatch.setattr(limits, "MAX_COUNTED", 3)
    assert [made.count("api", str(n), now=60.0) for n in range(4)] == [0, 0, 0, -1]


def test_a_card_is_checked_before_it_is_committed(http: httpx.Client) -> None:
    def check(content: str) -> httpx.Response:
        return http.post("/api/validate-yaml", json={"content": content, "repoType": "model"})

    good = check("---\nlicense: mit\n---\n# A\n")
    assert (good.status_code, good.json()) == (200, {"errors": [], "warnings": []})
    assert check("# A\n").json()["warnings"]
    bad = check("---\nlicense: [\n---\n")
    assert bad.status_code == 400 and bad.json()["errors"]


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/api/repos/create", {"name": "x", "organization": "nobody"}, "hub.address-unknown"),
        ("POST", "/api/repos/create", {"name": "No Good", "organization": "north"}, "hub.slug-invalid"),
        ("POST", "/api/repos/create", {"name": "x", "type": "space"}, "hub.hf-body-invalid"),
        ("GET", "/api/models?limit=many", None, "hub.hf-body-invalid"),
        ("GET", "/api/models?sort=likes", None, "hub.hf-sort-unknown"),
        ("GET", "/api/models?cursor=odd", None, "kernel.cursor-invalid"),
        ("PUT", "/api/models/{repo}/settings", {"gated": "perhaps"}, "hub.hf-body-invalid"),
        ("POST", "/api/models/{repo}/preupload/main", {"files": [{"path": "a", "size": 1, "sample": "A"}]},
         "hub.hf-body-invalid"),
        ("POST", "/api/models/{repo}/branch/main", {}, "hub.ref-taken"),
        ("DELETE", "/api/models/{repo}/branch/main", None, "hub.main-stays"),
        ("DELETE", "/api/models/{repo}/tag/nothing", None, "hub.ref-unknown"),
        ("GET", "/api/models/{repo}/user-access-request/forgotten", None, "hub.hf-body-invalid"),
        ("POST", "/api/models/{repo}/user-access-request/grant", {"user": "other"}, "members.party-unknown"),
        ("POST", "/api/models/{repo}/user-access-request/handle", {"status": "accepted"}, "hub.hf-body-invalid"),
        ("POST", "/{repo}.git/info/lfs/objects/batch", {"operation": "download", "objects": []}, "hub.hf-body-invalid"),
        ("POST", "/api/repos/move", {"fromRepo": "{repo}", "toRepo": "{repo}"}, "hub.nothing-moved"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_met_says_why(
    http: httpx.Client, repo: str, method: str, path: str, body: Any, said: str
) -> None:
    commit(http, repo, HEADER, inside("a.txt", b"a"))
    filled = json.loads(json.dumps(body).replace("{repo}", repo)) if body is not None else None
    answer = http.request(method, path.format(repo=repo), json=filled)
    assert answer.json()["code"] == said and 400 <= answer.status_code < 500
    assert answer.json()["error"]


def test_a_request_is_handled_by_its_number_too(hub: Any, http: httpx.Client, repo: str) -> None:
    http.put(f"/api/models/{repo}/settings", json={"gated": "manual"})
    hub.reader.verb("hub:access:request", asset=hub.asset(hub.donor, repo)["id"])
    [asked] = http.get(f"/api/models/{repo}/user-access-request/pending").json()
    given = {"requestId": asked["requestId"], "status": "accepted"}
    assert http.post(f"/api/models/{repo}/user-access-request/handle", json=given).status_code == 200
    [granted] = http.get(f"/api/models/{repo}/user-access-request/accepted").json()
    assert granted["user"]["user"] == "reader"


def test_a_body_beyond_all_bounds_is_refused(http: httpx.Client) -> None:
    answer = http.post("/api/validate-yaml", content=b"x" * (5 << 20))
    assert code(answer) == (413, "hub.hf-body-too-large")


def test_who_belongs_to_no_organisation_must_name_one(hub: Any) -> None:
    with httpx.Client(
        base_url=hub.foundation.url, headers={"authorization": f"Bearer {hub.reader.secret}"}, trust_env=False
    ) as reader:
        answer = reader.post("/api/repos/create", json={"name": "mine"})
    assert code(answer) == (400, "hub.hf-organisation-needed")


def test_a_secret_of_tickets_is_made_once_and_is_its_owners_alone(tmp_path: Any) -> None:
    one, two = tickets.Seal.load_or_generate(tmp_path), tickets.Seal.load_or_generate(tmp_path)
    assert one.over(b"x") == two.over(b"x")
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("tickets.key", 0o600)]
