"""Which API may be asked of which server, and that each refuses in its own words."""

from __future__ import annotations

from tests.resources.serving.gateway.conftest import Gateway


def test_an_api_that_no_server_of_the_model_can_be_spoken_to_in_is_refused(gateway: Gateway) -> None:
    given = {"name": "claude", "base_url": gateway.upstream.url, "private": True, "speaks": "anthropic"}
    endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    gateway.route("vectors-there", targets=[{"endpoint": endpoint, "model": "words=1"}], kind="embeddings")
    asked = len(gateway.upstream.seen)
    answer = gateway.call("vectors-there", path="/v1/embeddings", input="a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "serving.api-unspoken")
    assert len(gateway.upstream.seen) == asked, "nothing was forwarded"
