"""The pack of the European Union."""

from __future__ import annotations

from pathlib import Path

from gongqi.packs.reading import Pack

PACK = Pack(Path(__file__).parent)
