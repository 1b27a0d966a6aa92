"""What is written about a release once it is published, for the tools that others have.

- `mlbom.json`, `spdx.json`: bills of materials; `croissant.json`, of a dataset: a description that loads its records
- `model.sig` with `model-signing.pem`: a signature over the files for the model-signing tool, and the key to check it
- `findings.json`: how complete the first is, and where a donor's own Croissant description differs from the files

They are made in one go, outside any transaction, from the facts of the release alone, and kept by the hub under a signed
statement. They come seconds after the publication and not with it: reading tables takes longer than a transaction may,
and a release does not wait for its description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import rfc8785

from gongqi.books.evidence.keys import ECDSA_P256, SigningKeys
from gongqi.chain.standards import croissant, mlbom, readings, spdx
from gongqi.chain.standards.facts import Facts, gather
from gongqi.chain.standards.previews import wrong_in
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Read, Write
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.events import ReleasePublished

DESCRIBE = "standards.describe"
MLBOM, SPDX, CROISSANT, FINDINGS = "mlbom.json", "spdx.json", "croissant.json", "findings.json"
SIGNATURE, KEY = hub.SIGNATURE_PATH, "model-signing.pem"


def on_published(ctx: Write, event: ReleasePublished) -> None:
    """Have it described; the second delivery finds it under way."""
    ctx.start_flow(DESCRIBE, key=event.release, release=event.release)


def describe(kernel: Kernel, release: str) -> list[hub.Document]:
    """The documents of a published release. Slow: never inside a transaction."""
    facts = kernel.look(lambda ctx: gather(ctx, release))
    if facts.kind == "dataset":
        readings.read_all(kernel, facts.files)  # most often its commit has had that done
    bom = mlbom.write(facts)
    made = [
        hub.Document(MLBOM, mlbom.MEDIA_TYPE, rfc8785.dumps(bom)),
        hub.Document(SPDX, spdx.MEDIA_TYPE, rfc8785.dumps(spdx.write(facts))),
        hub.Document(FINDINGS, "application/json", rfc8785.dumps(kernel.look(lambda ctx: _findings(ctx, facts, bom)))),
    ]
    if facts.kind == "dataset":
        tables = kernel.look(lambda ctx: readings.claimed_tables(ctx, facts.files))
        made.append(hub.Document(CROISSANT, croissant.MEDIA_TYPE, rfc8785.dumps(croissant.write(facts, tables))))
    return made + _signed(facts, kernel.part(SigningKeys))


def keep(ctx: Write, release: str, documents: list[hub.Document]) -> str | None:
    """Give the documents to the hub; None when it has them already."""
    if hub.documents_of(ctx, release):
        return None
    return hub.attach(ctx, release, documents)


def _signed(facts: Facts, keys: SigningKeys) -> list[hub.Document]:
    key = keys[ECDSA_P256]
    signature = hub.sign_files({file.path: file.sha256 for file in facts.files}, name=facts.slug, key=key)
    return [
        hub.Document(SIGNATURE, hub.SIGNATURE_MEDIA_TYPE, signature),
        hub.Document(KEY, "application/x-pem-file", hub.pem(key.public.spki)),
    ]


def _findings(ctx: Read, facts: Facts, bom: Mapping[str, Any]) -> dict[str, Any]:
    own = readings.own_description(ctx, facts.files) if facts.kind == "dataset" else None
    found: dict[str, Any] = {"completeness": asdict(mlbom.completeness(bom)), "croissant": None}
    path, said = own or ("", None)
    if said is not None:
        found["croissant"] = [asdict(each) for each in wrong_in(ctx, path, said, facts.files)]
    return _plain(found)


def _plain(value: Any) -> Any:
    """Tuples as the lists that JSON has."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
