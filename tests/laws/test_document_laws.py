"""Laws of what others verify: a signature covers every byte of every name, and a stranger's file is refused or read."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.books.evidence.keys import ECDSA_P256, SigningKey
from gongqi.chain.standards import croissant, donated
from gongqi.chain.standards.facts import FileOf
from gongqi.kernel.errors import Refused
from gongqi.resources.hub.rules import path_flaw
from gongqi.resources.hub.signatures import IGNORED, check_files, public_key, sign_files

KEY = SigningKey.generate(ECDSA_P256)
SPKI = KEY.public.spki
PATHS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda path: path_flaw(path) is None)
DIGESTS = st.binary(max_size=3).map(lambda content: sha256(content).hexdigest())
FILES = st.dictionaries(PATHS, DIGESTS, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(("@id", "distribution", "field",
        "recordSet", "contentUrl", "sha256", "source", "fileObject", "extract", "column")), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


def holds(signature: bytes, files: dict[str, str]) -> bool:
    try:
        return check_files(signature, files, [SPKI]) == SPKI
    except Refused as refused:
        assert refused.code == "hub.model-signature-unsound"  # the one thing it may raise
        return False


@pytest.mark.heavy
@given(FILES, FILES)
def test_a_signature_holds_over_its_own_files_and_no_others(files: dict[str, str], others: dict[str, str]) -> None:
    signature = sign_files(files, name="m", key=KEY)
    covered = {path: digest for path, digest in files.items() if path.split("/")[0] not in IGNORED}
    compared = {path: digest for path, digest in others.items() if path.split("/")[0] not in IGNORED}
    assert holds(signature, files)
    assert holds(signature, others) == (covered == compared)


@given(FILES, st.integers(0, 9_999), st.integers(1, 255))
def test_with_a_changed_byte_a_signature_is_refused_or_says_the_same(
    files: dict[str, str], place: int, flip: int
) -> None:
    signature = sign_files(files, name="m", key=KEY)
    at = place * len(signature) // 10_000
    bad = signature[:at] + bytes([signature[at] ^ flip]) + signature[at + 1 :]
    if holds(bad, files):  # a byte that carries nothing, such as a name that nobody reads
        assert payload_of(bad) == payload_of(signature)


def payload_of(signature: bytes) -> str:
    return json.loads(signature)["dsseEnvelope"]["payload"]


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_brought_as_a_signature_or_a_key_is_refused_or_read(raw: bytes) -> None:
    assert not holds(raw, {})
    assert public_key(raw) is None


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_brought_as_a_description_is_read_into_few_findings(raw: bytes) -> None:
    files = [FileOf("a", "a" * 64, 1, None, None, None)]
    found = donated.differences("croissant.json", donated.read(raw), files, {"a": {"x": "text"}})
    assert len(found) <= donated.MAX_FLAWS
    assert all(len(each.name) <= donated.MAX_NAME + 20 for each in found)


@given(st.lists(st.text(max_size=12), max_size=20))
def test_names_become_as_many_ids_without_white_space(names: list[str]) -> None:
    made = croissant._ids(names)
    assert len(set(made)) == len(names)
    assert not any(character.isspace() for each in made for character in each)
