"""What a parser that was taken over might try, one trick a request: served by a `Spawner`, by name.

As the hub's inspector it plays the trick that the name of the file names: `crash.bin`, `spin.bin`.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

KEPT: list[str] = []


def serve(request: dict[str, Any], file: BinaryIO) -> Any:
    trick = request.get("trick") or Path(request["path"]).stem
    return globals()[trick](request, file)


def read(_request: dict[str, Any], file: BinaryIO) -> str:
    return file.read().decode()


def crash(_request: dict[str, Any], _file: BinaryIO) -> None:
    ctypes.string_at(0)


def eat(_request: dict[str, Any], _file: BinaryIO) -> int:
    return len(bytearray(64 << 30))


def spin(_request: dict[str, Any], _file: BinaryIO) -> None:
    while True:
        pass


def wait(request: dict[str, Any], _file: BinaryIO) -> str:
    time.sleep(request.get("seconds", 60))
    return "awake"


def babble(_request: dict[str, Any], _file: BinaryIO) -> str:
    return "x" * (16 << 20)


def leave(_request: dict[str, Any], _file: BinaryIO) -> None:
    os._exit(0)


def remember(request: dict[str, Any], _file: BinaryIO) -> list[str]:
    KEPT.append(request["word"])
    return KEPT


def fail(_request: dict[str, Any], _file: BinaryIO) -> None:
    raise TypeError("a mistake of ours")


def look_around(_request: dict[str, Any], _file: BinaryIO) -> dict[str, Any]:
    return {
        "environment": sorted(os.environ),
        "group": os.getpgrp() == os.getpid(),
        "descriptors": sum(is_open(number) for number in range(256)),
    }


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def attempt(request: dict[str, Any], _file: BinaryIO) -> str:
    """ "done", or the name of the error that stopped it."""
    address = request.get("address", "")

    def connect() -> None:
        with socket.create_connection(("127.0.0.1", int(address)), timeout=2):
            pass

    def write() -> None:
        with open(address, "wb") as file:
            file.write(b"x")

    def start() -> None:
        subprocess.run([sys.executable, "-c", ""], check=True)

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    def end_parent() -> None:
        os.kill(os.getppid(), 9)

    deeds = {
        "connect": connect, "write": write, "start": start, "fork": fork, "end_parent": end_parent,
        "read": lambda: Path(address).read_bytes(),
    }  # fmt: skip
    try:
        deeds[request["deed"]]()
    except OSError as error:
        return type(error).__name__
    return "done"
