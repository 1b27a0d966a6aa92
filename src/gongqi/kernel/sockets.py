"""Names of Unix sockets. A name may be 107 bytes long (unix(7)), and a home may lie deeper than that, so a socket is named
through its folder, which is opened for as long as it takes to bind or to connect."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_name(path: Path | str) -> Iterator[str]:
    """A name for the socket at `path` that is short however deep it lies. Raises OSError when there is no such folder."""
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
