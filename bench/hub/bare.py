"""The peer of repositories.py: a bare ASGI application that puts one prepared question to SQLite, and answers.

python -m bench.hub.bare HOME, with GONGQI_PORT in the environment
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import uvicorn

QUESTION = """
SELECT revision.digest, file.sha256, file.size FROM party
JOIN asset ON asset.org = party.id JOIN ref ON ref.asset = asset.id JOIN revision ON revision.id = ref.revision
JOIN file ON file.revision = revision.id
WHERE party.handle = ? AND asset.slug = ? AND ref.kind = 'branch' AND ref.name = ? AND file.path = ?
"""


def serve(home: Path, port: int) -> None:
    connection = sqlite3.connect(home / "gongqi.sqlite")

    async def answer(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        row: Any = ("", "", 0)
        if scope["path"] != "/health":
            _, handle, slug, _, name, path = scope["path"].split("/")
            row = connection.execute(QUESTION, (handle, slug, name, path)).fetchone()
        headers = [(b"x-repo-commit", row[0].encode()), (b"etag", row[1].encode()), (b"content-length", b"%d" % row[2])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    uvicorn.run(answer, port=port, loop="uvloop", http="httptools", log_config=None, access_log=False)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(os.environ["GONGQI_PORT"]))
