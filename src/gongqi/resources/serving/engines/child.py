"""The process of one engine: told on its standard input what it is to run, heard on its standard output while it lives.

It gives up the network, then imports what it needs, then gives up the file system and bounds its memory, and only then
looks at the model: open files, handed over, each hashed before it is used. It listens when it has run once. From then on
it says every second that it lives; a run that takes too long, or a parent that has gone, ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from gongqi.kernel.sandbox import confine
from gongqi.resources.serving.engines.parts import LLAMA, MODEL

BEAT_SECONDS = 1.0
RUN_SECONDS = 120.0  # of one run: a batch, or one token of an answer; beyond, it hangs
DRAIN_SECONDS = 60.0  # for what is under way to end, when it is told to
MAX_LOG_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20


WORDS = [Path(__file__).parents[depth] / name for depth, name in ((3, "kernel/words.toml"), (1, "words.toml"))]
VOICE = os.dup(1)  # what a library prints goes to the log


def main() -> None:
    os.dup2(2, 1)
    os.set_blocking(VOICE, False)
    order = json.loads(sys.stdin.buffer.readline())
    lacking = [] if confine.leave_network() else ["network"]
    confine.end_with_parent()  # after the move into other credentials, which would undo it
    if os.getppid() != order["parent"]:
        return
    try:
        make, api = _import(order["engine"])
        _bound(order["memory_bytes"])
        if not confine.leave_files(sys.path, [file for file, _ in order["files"].values()]):
            lacking.append("files")
        model = make(_checked(order["files"]), order)
    except MemoryError:
        _say(failed="memory", why="")
        return
    except Exception as error:  # whatever a library raises over these files, whoever started us must hear of it
        _say(failed=getattr(error, "code", "kernel.broken"), why=_shown(error))
        return
    _run(_serve(socket.socket(fileno=order["socket"]), model, api, lacking))


def _import(engine: str) -> tuple[Any, Any]:
    """What makes the model, of its files and the order, and what makes its API: with all that they and the server stand on
    imported, since a library of the system cannot be, later."""
    import uvloop  # noqa: F401

    from gongqi.resources.serving.engines import door  # noqa: F401
    from gongqi.resources.serving.plane import wire  # noqa: F401

    if engine == LLAMA:
        import llama_cpp  # noqa: F401  # pyright: ignore[reportMissingImports] - an extra
        import numpy

        from gongqi.resources.serving.engines.talk import Talk
        from gongqi.resources.serving.engines.writer import Writer

        return lambda files, order: Writer(files[MODEL], context_tokens=order["context_tokens"]), Talk
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401
    import tokenizers  # noqa: F401

    from gongqi.resources.serving.engines.embeddings import Embeddings
    from gongqi.resources.serving.engines.encoder import Encoder

    return lambda files, _order: Encoder({part: file.read_bytes() for part, file in files.items()}), Embeddings


def _bound(memory_bytes: int) -> None:
    """Memory of its own; a model's file that is only mapped is not counted. The log may grow to its limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_LOG_BYTES, MAX_LOG_BYTES))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _checked(files: Mapping[str, tuple[int, str]]) -> dict[str, Path]:
    """The files by their parts, each found to be what was released. Raises Broken serving.model-altered."""
    from gongqi.kernel.errors import Broken

    found = {}
    for part, (descriptor, digest) in files.items():
        path = found[part] = Path(f"/dev/fd/{descriptor}")
        hashed = sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                hashed.update(chunk)
        if hashed.hexdigest() != digest:
            raise Broken("serving.model-altered", sha256=digest)
    return found


def _run(serving: Any) -> None:
    import uvloop

    uvloop.run(serving)


async def _serve(listener: socket.socket, model: Any, api: Any, lacking: list[str]) -> None:
    import structlog

    from gongqi.kernel.words import Words
    from gongqi.resources.serving.engines.door import Door
    from gongqi.resources.serving.plane.wire import Wires

    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    logger = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure([structlog.processors.add_log_level, plain], logger_factory=logger)  # lines, never values
    words = Words()
    for path in WORDS:
        words.load(path)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stopping.set)
    engine = api(model, loop)
    door = Door(engine, words, loop.time)
    wires = Wires(door, loop)
    server = await loop.create_unix_server(wires, sock=listener)
    _say(ready=True, lacking=lacking)
    beating = loop.create_task(_beat(loop, door, engine))
    await stopping.wait()
    server.close()
    await wires.close(DRAIN_SECONDS)
    beating.cancel()
    os._exit(0)  # a run that nobody waits for any more need not end


async def _beat(loop: asyncio.AbstractEventLoop, door: Any, engine: Any) -> None:
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        now = loop.time()
        door.bodies.tick(now)
        if engine.since is not None and now - engine.since > RUN_SECONDS:
            os.write(2, b"a run took too long\n")
            os._exit(1)
        batches, rows = engine.done
        _say(waiting=engine.waiting, batches=batches, rows=rows)


def _say(**words: Any) -> None:
    """A line to whoever started us, who may be too busy to listen."""
    try:
        os.write(VOICE, json.dumps(words).encode() + b"\n")
    except BlockingIOError:
        pass
    except OSError:  # nobody is there
        os._exit(1)


def _shown(error: Exception) -> str:
    params = getattr(error, "params", None) or {}
    return str(params.get("reason") or type(error).__name__)[:200]


if __name__ == "__main__":
    main()
