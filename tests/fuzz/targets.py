"""What strangers' bytes reach, one entry each: a target reads any bytes or refuses them, and raises nothing else.

Each target takes bytes and returns nothing. `seeds` are sound examples to start from. `python -m tests.fuzz NAME` looks
for bytes that break one, led by coverage; what it has found is kept in `crashers/NAME/` and replayed by every run of the
suite.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gongqi.books.evidence.keys import KeySet
from gongqi.books.evidence.leaves import Leaf
from gongqi.books.evidence.notes import Checkpoint, Note
from gongqi.books.evidence.signing import verify_envelope
from gongqi.governance.compliance.rules import license_verdict
from gongqi.governance.compliance.tables import load_tables
from gongqi.kernel.errors import Refused
from gongqi.packs.cn.identifiers import MOBILE, RESIDENT
from gongqi.resources.hub import container, safety, signatures
from gongqi.resources.hub.downloads import range_within
from gongqi.resources.hub.formats import Finding
from gongqi.resources.hub.huggingface.lines import Change, note
from gongqi.resources.hub.oci.manifests import parse as parse_manifest
from gongqi.resources.hub.rules import check_paths, parse_card
from gongqi.resources.hub.terms import CARD, needles_of, terms_of
from gongqi.resources.hub.xet.shards import parse_shard
from gongqi.resources.hub.xet.xorbs import read_xorb
from gongqi.resources.serving.plane.duties import Cited, Recipe
from gongqi.resources.serving.plane.masking import Masks

VECTORS = Path(__file__).parents[1] / "resources" / "hub" / "xet" / "vectors"
RECIPE = Recipe((RESIDENT, MOBILE), "refuse", Cited("r", "s", "1", "statute", "2026-01-01"))
NAMES = ("file.bin", "m.onnx", "m.safetensors", "a.npy", "a.gguf", "x.zip", "x.tar.gz", "README.md")


@dataclass(frozen=True, slots=True)
class Target:
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    max_bytes: int = 4096


def refuses_or_reads(read: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def run(content: bytes) -> None:
        try:
            read(content)
        except Refused:
            return

    return run


def masks(content: bytes) -> None:
    """A body is refused, or nothing is found in what leaves and it comes back as it was; and a text likewise."""
    made = Masks(RECIPE)
    text = content.decode("utf-8", "replace")
    masked = made.text(text)
    assert not any(list(each.find(masked)) for each in RECIPE.detectors)
    assert "\\u" in text or made.reveal_text(masked) == text
    try:
        Masks(RECIPE).body(content)
    except Refused:
        return


def inspect(content: bytes) -> None:
    """The first byte chooses the name, since a name adds suspicion."""
    name, content = NAMES[content[0] % len(NAMES)] if content else NAMES[0], content[1:]
    findings = safety.inspect(name, io.BytesIO(content), len(content), frozenset({name}))
    assert all(isinstance(finding, Finding) for finding in findings)


def inspected() -> Iterable[bytes]:
    from tests.laws.test_safety_laws import CORPUS

    return [bytes([place]) + content for content in CORPUS for place in range(len(NAMES))]


def xorb(content: bytes) -> None:
    refuses_or_reads(lambda raw: read_xorb(io.BytesIO(raw), claimed=bytes(32)))(content)


def bundle(content: bytes) -> None:
    def read(raw: bytes) -> None:
        file = io.BytesIO(raw)
        for member in container.decode(file):
            for _ in container.read(file, member):
                pass

    refuses_or_reads(read)(content)


def note_of_a_log(content: bytes) -> None:
    refuses_or_reads(Note.parse)(content)
    refuses_or_reads(lambda raw: Checkpoint.parse(raw.decode("utf-8", "replace")))(content)
    refuses_or_reads(Leaf.parse)(content)


def licence(content: bytes) -> None:
    license_verdict(content.decode("utf-8", "replace"), component_kind="parameters", tables=TABLES)


def text(content: bytes) -> None:
    words = content.decode("utf-8", "replace")
    range_within(words, 1000)
    terms_of(CARD, words)
    needles_of(words)
    refuses_or_reads(lambda _: check_paths(words.split("\n")))(content)


TABLES = load_tables()
NOBODY = KeySet(())
README = b"---\nlicense: apache-2.0\ntags: [a, b]\ntitle: {zh: x, en: y}\n---\n# A\n| a | b |\n|---|---|\n| 1 | 2 |\n"
LINES = (
    b'{"key":"header","value":{"summary":"a","description":"b","parentCommit":"c"}}',
    b'{"key":"file","value":{"path":"a.txt","content":"aGVsbG8=","encoding":"base64"}}',
    b'{"key":"lfsFile","value":{"path":"a","algo":"sha256","oid":"' + b"a" * 64 + b'","size":3}}',
    b'{"key":"deletedFolder","value":{"path":"a/"}}',
)
MANIFEST = (
    b'{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.model.config.v1+json","digest":"sha256:'
    + b"a" * 64
    + b'","size":2},"layers":[{"mediaType":"application/vnd.cncf.model.weight.v1.raw","digest":"sha256:'
    + b"b" * 64
    + b'","size":1,"annotations":{"org.cncf.model.filepath":"m.bin"}}]}'
)
ENVELOPE = b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"a","sig":"AA=="}]}'
NOTE = b"a.example/log\n3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 a.example/log AAAAAAAAAAA=\n"

BODY = b'{"model":"m","messages":[{"role":"user","content":"13812345678 \\u0031 110105 19491231 002X"},[1.5,null]]}'

TARGETS: dict[str, Target] = {
    "masks": Target(masks, lambda: [BODY], 1000),
    "inspect": Target(inspect, inspected),
    "xorb": Target(xorb, lambda: (path.read_bytes()[:4096] for path in sorted(VECTORS.glob("*.xorb")))),
    "shard": Target(
        refuses_or_reads(parse_shard), lambda: (path.read_bytes() for path in sorted(VECTORS.glob("*.shard")))
    ),
    "card": Target(refuses_or_reads(parse_card), lambda: [README]),
    "commit": Target(refuses_or_reads(lambda line: note(Change(), line)), lambda: LINES),
    "manifest": Target(refuses_or_reads(parse_manifest), lambda: [MANIFEST]),
    "bundle": Target(bundle, lambda: [container_of()]),
    "envelope": Target(refuses_or_reads(lambda raw: verify_envelope(raw, NOBODY)), lambda: [ENVELOPE]),
    "signature": Target(refuses_or_reads(lambda raw: signatures.check_files(raw, {}, ())), lambda: [ENVELOPE]),
    "note": Target(note_of_a_log, lambda: [NOTE]),
    "licence": Target(
        licence, lambda: [b"MIT AND (Apache-2.0 OR GPL-3.0+)", b"LicenseRef-x WITH y", "许可".encode()], 600
    ),
    "text": Target(text, lambda: [b"bytes=0-10", b"bytes=-5", "a/乳腺癌/b.txt\nA/b".encode()], 1000),
}


def container_of() -> bytes:
    return b"".join(container.encode(iter([("a/b", 3, [b"abc"]), ("c", 0, [])])))
