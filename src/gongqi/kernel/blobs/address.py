"""`GONGQI_BLOBS_URL`: empty for a folder in the home, or `s3://bucket/prefix?endpoint=…&region=…`.

The address holds no secret. Those come from the standard variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN), which obstore reads, or from a file in the standard form that `credentials` names.

| option | meaning | default |
|---|---|---|
| endpoint | where the store is; `http://` is accepted, for a store on the same machine or network | Amazon's |
| region | | us-east-1 |
| credentials | a file with `aws_access_key_id` and `aws_secret_access_key` under `[default]` | the environment |
| cache_bytes | how much of it may be kept on this machine | 20 GiB |
"""

from __future__ import annotations

import configparser
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.errors import Refused

if TYPE_CHECKING:
    from gongqi.kernel.blobs.s3 import S3Blobs

CACHE_BYTES = 20 << 30  # one large model
OPTIONS = {"endpoint", "region", "credentials", "cache_bytes"}
SECRETS = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key",
           "aws_session_token": "session_token"}  # fmt: skip


def open_blobs(url: str, folder: Path) -> Blobs:
    """The store at this address; `folder` is where it may keep files of its own. Raises Refused, or Unavailable when
    the store does not answer: better now than at the first upload."""
    if not url:
        return FolderBlobs(folder)
    store = _s3(url, folder)
    store.ask()
    return store


def _s3(url: str, folder: Path) -> S3Blobs:
    from obstore.store import S3Store

    from gongqi.kernel.blobs.s3 import S3Blobs

    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != "s3" or not parts.netloc or parts.username is not None:
        raise Refused("kernel.blobs-url-invalid", part="address")
    if unknown := options.keys() - OPTIONS:
        raise Refused("kernel.blobs-url-invalid", part=min(unknown)[:40])
    endpoint, cache_bytes = options.get("endpoint", ""), options.get("cache_bytes", str(CACHE_BYTES))
    if endpoint and not endpoint.startswith(("https://", "http://")):
        raise Refused("kernel.blobs-url-invalid", part="endpoint")
    if not (cache_bytes.isascii() and cache_bytes.isdigit()):
        raise Refused("kernel.blobs-url-invalid", part="cache_bytes")
    config: dict[str, Any] = {"region": options.get("region", "us-east-1"), "checksum_algorithm": "SHA256"}
    if endpoint:
        config["endpoint"] = endpoint
    if "credentials" in options:
        config |= _secrets(Path(options["credentials"]))
    store = S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        config=config,  # type: ignore[arg-type]
        client_options={"allow_http": endpoint.startswith("http://"), "connect_timeout": "5 s", "timeout": "60 s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=60)},
    )
    return S3Blobs(store, folder, cache_bytes=int(cache_bytes))


def _secrets(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
        given = parser["default"]
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        raise Refused("kernel.blobs-url-invalid", part="credentials", detail=repr(error)) from error
    return {ours: given[theirs] for theirs, ours in SECRETS.items() if theirs in given}
