"""What was imported is released under the licence that it had where it came from, and the statement says from where."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import orjson
import pytest

from gongqi.doors.cli.client import Problem
from tests.chain.upstream.conftest import CARD
from tests.house.conftest import wait_for
from tests.sim.upstream import Upstream, serving

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        ("cc-by-4.0", None),
        (["cc-by-4.0"], None),
        (None, "import-without-licence"),
        ("mit", "import-licence-differs"),
        ("my own terms", "import-licence-unknown"),
    ],
)
def test_the_licence_there_decides_whether_an_import_is_published(chain: Any, there: Any, reason: str | None) -> None:
    f, owner = chain.foundation, chain.owner
    asset = f.asset(owner, chain.north, f"imported-{next(chain.numbers)}", visibility="public")
    with serving(Upstream({"README.md": CARD, "a.csv": b"a,b\n1,2\n"}, license=there)) as upstream:
        name = f"there-{next(chain.numbers)}"
        source = f.operator.verb("hub:source:add", name=name, endpoint=upstream.url, is_inside=True)["id"]
        begun = owner.verb("hub:import:begin", asset=asset, source=source, repo=upstream.repo)["id"]
        done = wait_for(lambda: ((row := owner.read("hub:import:get", begun))["state"] == "done" and row) or None)
    release = owner.verb("hub:release:draft", asset=asset, revision=done["revision"], name="1.0.0")["id"]
    owner.verb("hub:release:submit", release=release)
    answers = owner.read("hub:release:check", release=release)["answers"]
    [said] = [each for each in answers if each["source"] == "upstream.import"]
    if reason:
        assert (said["decision"], said["reason"]) == ("deny", f"upstream.gate.{reason}")
        with pytest.raises(Problem, match=r"^hub.gates-denied\("):
            f.operator.verb("hub:release:publish", release=release)
        return
    f.operator.verb("hub:release:publish", release=release)
    envelope = chain.stranger.http.get(f"/api/v1/hub/release/{release}/statement").json()
    told = orjson.loads(b64decode(envelope["payload"]))["predicate"]["imported_from"]
    assert (told["endpoint"], told["repo"], told["commit"]) == (upstream.url, upstream.repo, upstream.sha)
    described = f"/api/v1/standards/release/{release}/spdx.json"
    spdx = wait_for(lambda: ((got := chain.stranger.http.get(described)).status_code == 200 and got.text) or None)
    assert f"{upstream.repo} at {upstream.url}, commit {upstream.sha}" in spdx
