"""The command line, warm: one process imports it, and each command runs in a fork of that process.

The documents show more than a hundred commands, and nine tenths of each would be the import of the same modules. Run
as a script with a folder, this serves a Unix socket there and writes the program `gongqi` beside it, for the PATH: it
hands over its arguments, folder, environment, standard input, output and error, and ends as the command ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

MAX_REQUEST_BYTES = 1 << 20

CLIENT = """#!{python} -ISE
import json, os, socket, sys
request = json.dumps({{"argv": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
with socket.socket(socket.AF_UNIX) as line:
    line.connect({path!r})
    socket.send_fds(line, [len(request).to_bytes(4, "big")], [0, 1, 2])
    line.sendall(request)
    sys.exit(line.recv(1)[0])
"""


def main(folder: Path) -> NoReturn:
    """Listen until killed; one child for each command, and one between that waits for it and tells the client."""
    from gongqi import app
    from gongqi.doors.cli import client, local, push, verbs, verify  # noqa: F401 - imported to be warm

    app.house()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps who attends
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "socket"))
        door.listen()
        command = folder / "gongqi.new"
        command.write_text(CLIENT.format(python=sys.executable, path=str(folder / "socket")), "utf-8")
        command.chmod(0o755)
        command.rename(folder / "gongqi")
        while True:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                _attend(line)
            line.close()


def _attend(line: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(line, 4, 3)
    size = int.from_bytes(head, "big")
    assert size <= MAX_REQUEST_BYTES
    request = b""
    while len(request) < size:
        request += line.recv(size - len(request))
    child = os.fork()
    if child == 0:
        line.close()
        _run(json.loads(request), streams)
    for stream in streams:
        os.close(stream)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    line.sendall(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def _run(request: dict[str, Any], streams: list[int]) -> NoReturn:
    from gongqi.__main__ import main as gongqi

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["gongqi", *request["argv"]]
    code = 0
    try:
        gongqi()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
