"""Bounds that a process sets on itself, and cannot take back. Standard library only: children load this file first.

Run as a program, it bounds itself and becomes another file: `confine.py BOUNDS FILE`, with BOUNDS as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import runpy
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # unshare(2)
_DEATH_SIGNAL, _NO_NEW_PRIVILEGES = 1, 38  # prctl(2)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # landlock(7): numbers are the same on every architecture
_ASK_VERSION, _PATH_BENEATH = 1, 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # version of Landlock → how many rights over files it knows
_SCOPES_SINCE, _SCOPES = 6, 0b11  # no abstract sockets and no signals outside
_READ_FILE, _READ = 0b0100, 0b1100  # a file; files and folders
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one child may use. `processes` None leaves threads and children free."""

    cpu_seconds: int
    memory_bytes: int
    processes: int | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


def limit(bounds: Bounds) -> None:
    """Bound processor time, memory, core dumps, and the size of any file written, which is none."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_seconds, bounds.cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (bounds.memory_bytes, bounds.memory_bytes))
    if bounds.processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (bounds.processes, bounds.processes))


def end_with_parent() -> None:
    """Be killed when the thread that forked this process ends, however that comes about."""
    _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def leave_network() -> bool:
    """Move into an empty network, and out of every privilege; False where the machine does not allow it."""
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return _libc.unshare(_NEW_USER | _NEW_NETWORK) == 0


def leave_files(readable: Iterable[str], held: Iterable[int] = ()) -> bool:
    """Open no file by name any more, except to read what is beneath `readable`, and again the open files `held`, which
    are called `/dev/fd/…`; False where there is no Landlock."""
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    if version < 1:
        return False
    rights = (1 << max(count for since, count in _FILE_RIGHTS.items() if since <= version)) - 1
    wanted = _Ruleset(files=rights, network=0, scoped=_SCOPES)
    size = ctypes.sizeof(wanted) if version >= _SCOPES_SINCE else 8
    ruleset = _libc.syscall(_CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    for folder in filter(os.path.isdir, readable):
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        _allow(ruleset, descriptor, _READ)
        os.close(descriptor)
    for descriptor in held:
        _allow(ruleset, descriptor, _READ_FILE)
    restricted = _libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0
    os.close(ruleset)
    return restricted


def _allow(ruleset: int, descriptor: int, rights: int) -> None:
    rule = _Beneath(rights=rights, folder=descriptor)
    _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))


def main() -> None:
    bounds, file = sys.argv[1:]
    leave_network()
    limit(Bounds(**json.loads(bounds)))
    sys.argv = [file]
    runpy.run_path(str(Path(file)), run_name="__main__")


if __name__ == "__main__":
    main()
