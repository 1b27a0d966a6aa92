"""Signed notes against the published examples, and checkpoints that must not open."""

from base64 import b64decode, b64encode

import pytest

from gongqi.books.evidence.keys import ECDSA_P256, ED25519, HYBRID, ML_DSA_65, SigningKey, SigningKeys
from gongqi.books.evidence.notes import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    SIGNATURE_TYPES,
    Checkpoint,
    Note,
    NoteKey,
    note_keys,
    open_checkpoint,
    open_note,
    sign_checkpoint,
    sign_note,
)
from gongqi.books.evidence.rules import EMPTY_ROOT, MAX_TREE_SIZE
from gongqi.kernel.errors import Refused

# c2sp.org/signed-note, section "Example".
C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
# golang.org/x/mod/sumdb/note, note_test.go and example_test.go.
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"  # the type byte, then the Ed25519 seed
ENOCH_VKEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
GO_TEXT = """If you think cryptography is the answer to your problem,
then you don't know what your problem is.
"""
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
GO_NOTE = (GO_TEXT + "\n" + PETER_LINE + ENOCH_LINE).encode()

ORIGIN = "log.example/evidence"


@pytest.fixture(scope="module")
def keys() -> SigningKeys:
    return SigningKeys.generate()


@pytest.fixture(scope="module")
def raw(keys: SigningKeys) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, 8, EMPTY_ROOT), keys)


def code_of(refusal: pytest.ExceptionInfo[Refused]) -> tuple[str, object]:
    return refusal.value.code, refusal.value.params.get("algorithm")


def test_the_example_of_the_specification_opens() -> None:
    key = NoteKey.parse(C2SP_VKEY)
    assert key.key_id.hex() == "530d903a"
    assert open_note(C2SP_NOTE.encode(), [key], algorithms=[ED25519]) == "This is an example message.\n"


def test_the_notes_of_go_open_and_are_made_byte_for_byte() -> None:
    peter, enoch = NoteKey.parse(PETER_VKEY), NoteKey.parse(ENOCH_VKEY)
    assert (peter.vkey, enoch.vkey) == (PETER_VKEY, ENOCH_VKEY)
    assert open_note(GO_NOTE, [peter, enoch], algorithms=[ED25519]) == GO_TEXT
    assert open_note(GO_NOTE, [enoch], algorithms=[ED25519]) == GO_TEXT
    signer = SigningKeys((ed25519_from_seed(b64decode(PETER_SEED)[1:]),))
    signed = sign_note(GO_TEXT, "PeterNeumann", signer, algorithms=[ED25519])
    assert signed == (GO_TEXT + "\n" + PETER_LINE).encode()


def ed25519_from_seed(seed: bytes) -> SigningKey:
    pkcs8 = bytes.fromhex("302e020100300506032b657004220420") + seed  # RFC 8410 section 7
    return SigningKey.from_pem(b"-----BEGIN PRIVATE KEY-----\n" + b64encode(pkcs8) + b"\n-----END PRIVATE KEY-----\n")


def test_every_mangling_of_a_verifier_key_is_refused() -> None:
    """As Go's TestNewVerifier does: every shorter piece, every changed character."""
    pieces = {PETER_VKEY[i:j] for i in range(len(PETER_VKEY)) for j in range(i, len(PETER_VKEY) + 1)} - {PETER_VKEY}
    changed = {PETER_VKEY[:i] + chr(ord(c) + 1) + PETER_VKEY[i + 1 :] for i, c in enumerate(PETER_VKEY)}
    others = {
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        PETER_VKEY.replace("c74f20a3", "C74F20A3"),
    }
    for vkey in sorted(pieces | changed | others):
        with pytest.raises(Refused) as refusal:
            NoteKey.parse(vkey)
        assert refusal.value.code == "evidence.note-key-malformed"


def test_both_kinds_of_verifier_key_survive_being_written_down(keys: SigningKeys) -> None:
    made = note_keys(ORIGIN, keys.public)
    assert [key.public.algorithm for key in made] == [ED25519, ML_DSA_65]
    assert [NoteKey.parse(key.vkey) for key in made] == list(made)
    assert made[0].key_id != made[1].key_id


def test_the_type_of_ml_dsa_65_is_outside_the_assigned_bytes() -> None:
    assert SIGNATURE_TYPES[ML_DSA_65][0] == 0xFF
    assert len(SIGNATURE_TYPES[ML_DSA_65]) > 1


def test_a_p256_key_signs_no_notes(keys: SigningKeys) -> None:
    with pytest.raises(Refused, match="note-key-malformed"):
        NoteKey(ORIGIN, keys[ECDSA_P256].public)


def test_a_checkpoint_opens_with_both_keys(keys: SigningKeys, raw: bytes) -> None:
    checkpoint = open_checkpoint(raw, ORIGIN, note_keys(ORIGIN, keys.public))
    assert checkpoint == Checkpoint(ORIGIN, 8, EMPTY_ROOT)
    assert Note.parse(raw).encode() == raw
    assert len(Note.parse(raw).signatures) == 2


@pytest.mark.parametrize("algorithm", HYBRID)
def test_a_missing_signature_is_named(algorithm: str, keys: SigningKeys, raw: bytes) -> None:
    note = Note.parse(raw)
    missing = HYBRID.index(algorithm)
    stripped = Note(note.text, tuple(line for place, line in enumerate(note.signatures) if place != missing))
    with pytest.raises(Refused) as refusal:
        open_note(stripped.encode(), note_keys(ORIGIN, keys.public))
    assert code_of(refusal) == ("evidence.signature-missing", algorithm)


@pytest.mark.parametrize("algorithm", HYBRID)
def test_a_false_signature_is_named(algorithm: str, keys: SigningKeys, raw: bytes) -> None:
    other = Note.parse(sign_note("another text\n", ORIGIN, keys))
    note, place = Note.parse(raw), HYBRID.index(algorithm)
    lines = list(note.signatures)
    lines[place] = other.signatures[place]
    with pytest.raises(Refused) as refusal:
        open_note(Note(note.text, tuple(lines)).encode(), note_keys(ORIGIN, keys.public))
    assert code_of(refusal) == ("evidence.signature-false", algorithm)
    assert refusal.value.params["key_id"] == keys[algorithm].public.key_id


def test_the_trusted_keys_must_include_both_algorithms(keys: SigningKeys, raw: bytes) -> None:
    for trusted, missing in (([], ED25519), (note_keys(ORIGIN, keys.public)[:1], ML_DSA_65)):
        with pytest.raises(Refused) as refusal:
            open_note(raw, trusted)
        assert code_of(refusal) == ("evidence.signature-missing", missing)


def test_signatures_under_another_name_do_not_count(keys: SigningKeys, raw: bytes) -> None:
    with pytest.raises(Refused, match="signature-missing"):
        open_note(raw, note_keys("other.example", keys.public))


def test_a_good_signature_does_not_excuse_a_false_one_of_the_same_key(keys: SigningKeys, raw: bytes) -> None:
    note = Note.parse(raw)
    false = Note.parse(sign_note("another text\n", ORIGIN, keys)).signatures[0]
    with pytest.raises(Refused, match="signature-false"):
        open_note(Note(note.text, (*note.signatures, false)).encode(), note_keys(ORIGIN, keys.public))


def test_a_witness_line_is_kept_and_ignored(keys: SigningKeys, raw: bytes) -> None:
    cosigned = raw + PETER_LINE.encode()
    assert len(Note.parse(cosigned).signatures) == 3
    assert open_checkpoint(cosigned, ORIGIN, note_keys(ORIGIN, keys.public)).size == 8


def test_after_a_rotation_either_key_opens_the_note(keys: SigningKeys, raw: bytes) -> None:
    both = note_keys(ORIGIN, keys.public) + note_keys(ORIGIN, SigningKeys.generate().public)
    assert open_checkpoint(raw, ORIGIN, both).size == 8


def test_no_changed_byte_of_a_checkpoint_goes_unnoticed(keys: SigningKeys, raw: bytes) -> None:
    trusted = note_keys(ORIGIN, keys.public)
    head = raw.index("—".encode())
    places = {*range(head + 200), *range(head, len(raw), 97), *range(len(raw) - 12, len(raw))}
    for place in sorted(places):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(Refused):
            open_checkpoint(changed, ORIGIN, trusted)


@pytest.mark.parametrize(
    "raw_note",
    [
        b"",
        b"\n",
        b"\n\n",
        GO_TEXT.encode(),
        (GO_TEXT + "\n").encode(),
        (GO_TEXT + "\n" + PETER_LINE[:-1]).encode(),
        ("\x01" + GO_TEXT + "\n" + PETER_LINE).encode(),
        (GO_TEXT.replace("\n", "\r\n") + "\n" + PETER_LINE).encode(),
        b"\xff" + GO_NOTE,
        (GO_TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "Bad Name")).encode(),
        (GO_TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "Bad+Name")).encode(),
        (GO_TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "Bad\u3000Name")).encode(),
        (GO_TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "")).encode(),
        (GO_TEXT + "\n" + PETER_LINE.replace("—", "-")).encode(),
        (GO_TEXT + "\n" + PETER_LINE + "Unexpected line.\n").encode(),
        (GO_TEXT + "\n" + PETER_LINE.replace("AM=\n", "AN=\n")).encode(),  # the same bytes, written otherwise
        (GO_TEXT + "\n" + PETER_LINE.replace("=\n", "\n")).encode(),
        (GO_TEXT + "\n— PeterNeumann x08gow==\n").encode(),  # a key id and no signature
        (GO_TEXT + "\n" + PETER_LINE * (MAX_SIGNATURES + 1)).encode(),
    ],
)
def test_what_is_not_a_note_is_refused(raw_note: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        open_note(raw_note, [NoteKey.parse(PETER_VKEY)], algorithms=[ED25519])
    assert refusal.value.code == "evidence.note-malformed"


def test_a_note_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(Refused) as refusal:
        Note.parse(bytes(MAX_NOTE_BYTES + 1))
    assert refusal.value.code == "evidence.note-too-large"


def test_text_with_empty_lines_is_split_at_the_last_one(keys: SigningKeys) -> None:
    text = "\none\n\ntwo\n\n"
    assert open_note(sign_note(text, ORIGIN, keys), note_keys(ORIGIN, keys.public)) == text


@pytest.mark.parametrize("text", ["", "no newline", "a\ttab\n", "a\rreturn\n"])
def test_text_that_a_note_cannot_carry_is_not_signed(text: str, keys: SigningKeys) -> None:
    with pytest.raises(Refused, match="note-malformed"):
        sign_note(text, ORIGIN, keys)


def test_the_checkpoint_of_the_specification_is_read_and_written_back() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = Checkpoint.parse(text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e")
    assert checkpoint.text == text
    assert Checkpoint.parse(text + "an extension\n").extensions == ("an extension",)


ROOT_LINE = b64encode(EMPTY_ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        f"{ORIGIN}\n8\n",
        f"{ORIGIN}\n8\n{ROOT_LINE}",
        f"\n8\n{ROOT_LINE}\n",
        f"two words\n8\n{ROOT_LINE}\n",
        f"{ORIGIN}\n08\n{ROOT_LINE}\n",
        f"{ORIGIN}\n-8\n{ROOT_LINE}\n",
        f"{ORIGIN}\n٨\n{ROOT_LINE}\n",
        f"{ORIGIN}\n{MAX_TREE_SIZE + 1}\n{ROOT_LINE}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{ROOT_LINE}\n",
        f"{ORIGIN}\n8\n{ROOT_LINE[:-4]}\n",
        f"{ORIGIN}\n8\n{ROOT_LINE.replace('=', '')}\n",
        f"{ORIGIN}\n8\n{ROOT_LINE}\n\n",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        Checkpoint.parse(text)
    assert refusal.value.code == "evidence.checkpoint-malformed"


def test_the_checkpoint_of_another_log_is_refused_by_name(keys: SigningKeys) -> None:
    text = Checkpoint("other.example/log", 8, EMPTY_ROOT).text
    with pytest.raises(Refused) as refusal:
        open_checkpoint(sign_note(text, ORIGIN, keys), ORIGIN, note_keys(ORIGIN, keys.public))
    assert refusal.value.code == "evidence.checkpoint-of-another-log"
    assert refusal.value.params == {"got": "other.example/log", "want": ORIGIN}
