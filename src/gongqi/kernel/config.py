"""Settings, read once at start-up from the environment; nothing else reads it.

`GONGQI_HOME` holds everything an embedded foundation is: database, blobs, log tiles, keys, operator token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gongqi.kernel.errors import Refused

DEFAULT_PORT = 8420
DEFAULT_QUOTA_BYTES = 1 << 40  # what one organisation may keep unless the operator sets another limit
FOUNDATION, FOUNDATION_ZH = "Gongqi Foundation", "公器基金会"
_PATH_PREFIX = re.compile(r"(/[A-Za-z0-9_-]+)+")


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    host: str
    port: int
    database_url: str
    blobs_url: str
    accel_prefix: str
    quota_bytes: int
    foundation: str
    foundation_zh: str
    packs: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        home = Path(environ.get("GONGQI_HOME") or "var").expanduser().resolve()
        port_text = environ.get("GONGQI_PORT") or str(DEFAULT_PORT)
        if not (port_text.isascii() and port_text.isdigit()) or not 0 < int(port_text) < 65536:
            raise Refused("kernel.port-invalid", port=port_text)
        database_url = environ.get("GONGQI_DATABASE_URL") or f"sqlite:///{home / 'gongqi.sqlite'}"
        if not database_url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
            raise Refused("kernel.database-url-invalid", scheme=database_url.split(":", 1)[0])
        accel_prefix = environ.get("GONGQI_ACCEL_PREFIX") or ""
        if accel_prefix and not _PATH_PREFIX.fullmatch(accel_prefix):
            raise Refused("kernel.accel-prefix-invalid", prefix=accel_prefix[:80])
        quota_text = environ.get("GONGQI_QUOTA_BYTES") or str(DEFAULT_QUOTA_BYTES)
        if not (quota_text.isascii() and quota_text.isdigit()) or len(quota_text) > 18:
            raise Refused("kernel.quota-invalid", quota=quota_text[:80])
        return cls(
            home=home, host=environ.get("GONGQI_HOST") or "127.0.0.1", port=int(port_text), database_url=database_url,
            blobs_url=environ.get("GONGQI_BLOBS_URL") or "", accel_prefix=accel_prefix, quota_bytes=int(quota_text),
            foundation=environ.get("GONGQI_FOUNDATION") or FOUNDATION,
            foundation_zh=environ.get("GONGQI_FOUNDATION_ZH") or environ.get("GONGQI_FOUNDATION") or FOUNDATION_ZH,
            packs=environ.get("GONGQI_PACKS") or "",
        )  # fmt: skip

    def foundation_in(self, language: str) -> str:
        """The foundation's name for readers of this language."""
        return self.foundation_zh if language == "zh" else self.foundation

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def prepare_home(self) -> None:
        """Create the home folder, private to its owner, or say in one line why it cannot be used."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.home / f".write-probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise Refused("kernel.home-unwritable", home=str(self.home), reason=error.strerror or "") from error
