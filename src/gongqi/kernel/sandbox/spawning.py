"""The process that forks: it imports one file, then forks a child for each request and tells how the child ended.

It never looks at the bytes itself. It has one thread, so that forking is safe, and ends with all its children when its
standard input does, that is, when whoever started it has ended, however that came about.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gongqi.kernel.sandbox.confine import Bounds, end_with_parent, leave_files, leave_network, limit
from gongqi.kernel.sandbox.spawner import MAX_FILES, REQUEST_BYTES

Serve = Callable[..., Any]


@dataclass(slots=True)
class _Child:
    status: int  # the pipe that tells how it ended
    end_at: float
    is_late: bool = False


def main() -> None:
    control = socket.socket(fileno=0)
    lacking = [] if leave_network() else ["network"]
    if not _can_leave_files():
        lacking.append("files")
    try:
        serve = _load(sys.argv[1])
    except Exception:  # whatever a file raises at import, whoever started us must hear of it
        control.send(json.dumps({"failure": traceback.format_exc(limit=-5)}).encode())
        return
    gc.freeze()  # what is shared with every child need not be copied by their collections
    control.send(json.dumps({"lacking": lacking}).encode())
    _Nursery(control, serve).run()


def _load(file: str) -> Serve:
    spec = importlib.util.spec_from_file_location("served", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.serve


def _can_leave_files() -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if leave_files(()) else 1)
    return os.waitpid(pid, 0)[1] == 0


class _Nursery:
    def __init__(self, control: socket.socket, serve: Serve) -> None:
        self._control = control
        self._serve = serve
        self._children: dict[int, _Child] = {}
        self._roused, rouse = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler there must be, or no byte is written
        signal.set_wakeup_fd(rouse)
        self._rouse = rouse

    def run(self) -> None:
        waiting = select.poll()
        for descriptor in (self._control.fileno(), self._roused):
            waiting.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in waiting.poll(self._pause())}
            if self._roused in ready:
                os.read(self._roused, 4096)
                self._bury()
            self._end_the_late()
            if self._control.fileno() in ready and not self._receive():
                break
        for pid in self._children:
            _kill(pid)

    def _pause(self) -> float | None:
        """Milliseconds until the next child is late."""
        ends = [child.end_at for child in self._children.values() if not child.is_late]
        return max(0.0, min(ends) - time.monotonic()) * 1000 + 1 if ends else None

    def _receive(self) -> bool:
        """Fork a child for one request; False at the end of the requests."""
        packet, descriptors, _, _ = socket.recv_fds(self._control, REQUEST_BYTES, 2 + MAX_FILES)
        if not packet:
            return False
        answer, status, *files = descriptors
        asked = json.loads(packet)
        pid = os.fork()
        if pid == 0:
            self._live(asked, files, answer, status)
        os.setpgid(pid, pid)
        for handed in (answer, *files):
            os.close(handed)
        self._children[pid] = _Child(status, time.monotonic() + asked["wait_seconds"])
        return True

    def _live(self, asked: dict[str, Any], files: list[int], answer: int, status: int) -> None:
        """All that a child is. Never returns."""
        try:
            os.setpgid(0, 0)
            end_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for held in (0, status, self._roused, self._rouse, *(other.status for other in self._children.values())):
                os.close(held)
            leave_files(sys.path, files)
            limit(Bounds(**json.loads(asked["bounds"])))
            with open(answer, "wb") as said, contextlib.ExitStack() as held:
                opened = [held.enter_context(open(file, "rb")) for file in files]
                for each in opened:
                    each.seek(0)  # the place in a file is shared with whoever handed it over
                said.write(json.dumps(self._spoken(asked["request"], opened)).encode())
        finally:
            os._exit(0)

    def _spoken(self, request: dict[str, Any], files: list[Any]) -> dict[str, Any]:
        try:
            return {"answer": self._serve(request, *files)}
        except MemoryError:
            return {"memory": True}
        except Exception:  # a mistake of ours; whoever asked must hear of it
            return {"failure": traceback.format_exc(limit=-5)}

    def _end_the_late(self) -> None:
        now = time.monotonic()
        for pid, child in self._children.items():
            if child.end_at <= now and not child.is_late:
                child.is_late = True
                _kill(pid)

    def _bury(self) -> None:
        """Tell how each child that has ended did so, and end what it may have left behind."""
        while self._children:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            _kill(ended.si_pid)  # while its number cannot yet be another's
            _, status = os.waitpid(ended.si_pid, 0)
            child = self._children.pop(ended.si_pid)
            how = {"status": os.waitstatus_to_exitcode(status), "is_late": child.is_late}
            with contextlib.suppress(BrokenPipeError):  # whoever asked has stopped listening
                os.write(child.status, json.dumps(how).encode())
            os.close(child.status)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all of it has ended
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
