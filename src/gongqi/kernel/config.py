"""Settings, read once at start-up from the environment; nothing else reads it.

`GONGQI_HOME` holds everything an embedded foundation is: database, blobs, log tiles, keys, operator token.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gongqi.kernel.errors import Refused

DEFAULT_PORT = 8420


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    host: str
    port: int
    database_url: str
    foundation: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        home = Path(environ.get("GONGQI_HOME") or "var").expanduser().resolve()
        port_text = environ.get("GONGQI_PORT") or str(DEFAULT_PORT)
        if not (port_text.isascii() and port_text.isdigit()) or not 0 < int(port_text) < 65536:
            raise Refused("kernel.port-invalid", port=port_text)
        database_url = environ.get("GONGQI_DATABASE_URL") or f"sqlite:///{home / 'gongqi.sqlite'}"
        if not database_url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
            raise Refused("kernel.database-url-invalid", scheme=database_url.split(":", 1)[0])
        return cls(
            home=home,
            host=environ.get("GONGQI_HOST") or "127.0.0.1",
            port=int(port_text),
            database_url=database_url,
            foundation=environ.get("GONGQI_FOUNDATION") or "Gongqi Foundation",
        )

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
