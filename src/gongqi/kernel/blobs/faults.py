"""What a disk says when it fails, said as one of ours: full, denied, or not answering."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from gongqi.kernel.errors import Unavailable

RETRY_SECONDS = 60  # each of these waits for a person
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last is what a process limit on file sizes gives
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def disk_faults() -> Iterator[None]:
    """Within, an OSError becomes Unavailable: kernel.disk-full, kernel.storage-denied or kernel.storage-failed."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            code = "kernel.disk-full"
        elif error.errno in DENIED or isinstance(error, PermissionError):
            code = "kernel.storage-denied"
        else:
            code = "kernel.storage-failed"
        raise Unavailable(code, retry_after_seconds=RETRY_SECONDS, detail=str(error)) from error
