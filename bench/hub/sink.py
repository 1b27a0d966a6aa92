"""The peer of uploads.py: a hub that reads whatever the stock client sends, drops it, and says that all is well.

What a client takes against it is the client's own time, and that of the server's HTTP: no hub can be faster.

python -m bench.hub.sink, with GONGQI_PORT in the environment
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import uvicorn

COMMIT = "0" * 40


async def serve(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, dropped = b"", scope["method"] == "PUT" or "/xorbs/" in scope["path"]
    while True:
        message = await receive()
        if not dropped:
            body += message.get("body", b"")
        if not message.get("more_body"):
            break
    status, given = answer(scope["path"], body, f"http://{dict(scope['headers'])[b'host'].decode()}")
    content = json.dumps(given).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def answer(path: str, body: bytes, origin: str) -> tuple[int, Any]:
    if "/preupload/" in path:
        files = json.loads(body)["files"]
        return 200, {"files": [{"path": each["path"], "uploadMode": "lfs", "shouldIgnore": False} for each in files]}
    if path.endswith("/objects/batch"):
        upload = {"upload": {"href": f"{origin}/sink"}}
        objects = [{**each, "actions": upload} for each in json.loads(body)["objects"]]
        return 200, {"transfer": "basic", "objects": objects}
    if "/xet-write-token/" in path:
        # A new address each time: the client remembers what it has sent to the old one.
        return 200, {"casUrl": f"{origin}/cas/{time.time_ns()}", "accessToken": "sink", "exp": int(time.time()) + 3600}
    if "/v1/xorbs/" in path:
        return 200, {"was_inserted": True}
    if path.endswith("/v1/shards"):
        return 200, {"result": 1}
    if "/commit/" in path:
        return 200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{origin}/bench/sink/commit/{COMMIT}"}
    if path in ("/sink", "/health") or path == "/api/repos/create":
        return 200, {}
    return 404, {}


if __name__ == "__main__":
    uvicorn.run(serve, port=int(os.environ["GONGQI_PORT"]), loop="uvloop", http="httptools", log_config=None)
