"""The pack of the People's Republic of China (mainland)."""

from __future__ import annotations

from pathlib import Path

from gongqi.packs.cn.identifiers import MOBILE, RESIDENT
from gongqi.packs.reading import Pack

PACK = Pack(Path(__file__).parent, detectors=(RESIDENT, MOBILE))
