"""What looks into tables and descriptions, in a bounded child that is forked for each request (`tables` asks for it).

One file is described, two are compared; a donor's own description is read (donated.py). A file that is no table answers
{}; one that is too much for its memory says so.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import duckdb

from gongqi.chain.standards.donated import DESCRIPTION, read
from gongqi.chain.standards.tables.difference import difference
from gongqi.chain.standards.tables.loading import NoTableError, confine, load
from gongqi.chain.standards.tables.profile import profile

NAMES = ("before", "after")


def serve(request: dict[str, Any], *files: BinaryIO) -> dict[str, Any]:
    if request["forms"] == [DESCRIPTION]:
        return read(files[0].read())
    confine(files)
    try:
        asked = zip(NAMES, request["forms"], files, strict=False)
        loaded = [load(*each, cells=request["cells"]) for each in asked]
        return profile(loaded[0]) if len(loaded) == 1 else difference(*loaded)
    except NoTableError:
        return {}
    except duckdb.OutOfMemoryException as error:
        raise MemoryError from error
