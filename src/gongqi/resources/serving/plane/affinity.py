"""Which of several equal servers a conversation goes to, so that it meets the prompts that it has already computed there.

A server of models remembers the beginnings of prompts that it has read. So on a route that says so, the calls of one
organisation that begin alike go to the same server, by rendezvous hashing (Thaler and Ravishankar, 1998; weighted as in
Mosharaf et al.): each server draws a number from the beginning and its own name, by weight, and the highest answers. When
a server rests or leaves, only its own conversations move.

The beginning is what a conversation keeps when it goes on: all up to its first words of the user, or the caller's
`prompt_cache_key`. The organisation is part of it: who asks the same elsewhere learns nothing by where it is answered.
That a server itself tells by its speed, or by `cached_tokens`, what others asked it, is prevented by `cache_salt`, which
servers such as vLLM take into what they remember: where an endpoint says so, each organisation has a salt of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b, sha256

import msgspec

from gongqi.resources.serving.plane import request
from gongqi.resources.serving.plane.snapshot import Target

PROMPT_BYTES = 256  # of a text that is no conversation
MAX_OPENING = 8  # messages before the first of the user; more are no opening

_SALT = b'"cache_salt"'


class Begun(msgspec.Struct):
    prompt_cache_key: str | None = None
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


class Turn(msgspec.Struct):
    role: str = ""


_begun = msgspec.json.Decoder(Begun)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_turn = msgspec.json.Decoder(Turn)


def beginning(body: bytes) -> bytes:
    """What calls have in common that go on from one another; what cannot be read has its first bytes."""
    try:
        begun = _begun.decode(body)
        if begun.prompt_cache_key:
            return b"key " + begun.prompt_cache_key.encode()
        opening = [bytes(begun.system), bytes(begun.instructions)]
        said = bytes(begun.messages or begun.input)
        if not said.startswith(b"["):
            return b" ".join([*opening, (said or bytes(begun.prompt))[:PROMPT_BYTES]])
        for message in _list.decode(said)[:MAX_OPENING]:
            opening.append(bytes(message))
            if _turn.decode(message).role == "user":
                break
        return b" ".join(opening)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body[:PROMPT_BYTES]


def draw(org: str, body: bytes) -> Callable[[Target], float]:
    """What each server draws for this call, above 0 and below 1."""
    begun = blake2b(b"%s\0%s" % (org.encode(), beginning(body)), digest_size=32).digest()

    def drawn(target: Target) -> float:
        place = f"{target.server.id}\0{target.model}".encode()
        number = int.from_bytes(blake2b(place, key=begun, digest_size=8).digest(), "big") >> 11  # as a float holds
        return (number + 1) / (2**53 + 2)

    return drawn


def salted(body: bytes, org: str) -> bytes:
    """The body with a salt of this organisation's, whatever it said of one itself."""
    salt = sha256(b"cache-salt\0" + org.encode()).hexdigest()
    if _SALT not in body and b"\\u00" not in body:
        start = body.index(b"{") + 1
        return b'%s"cache_salt":"%s",%s' % (body[:start], salt.encode(), body[start:])
    return msgspec.json.encode(request.whole(body) | {"cache_salt": salt})
