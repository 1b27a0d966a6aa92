"""What detectors find in a call is put behind placeholders before it leaves, and put back into the answer.

Masked is what is forwarded, when it is about to be: after every translation, so that no API, no nesting and no escape has
a way round. All strings and numbers of the body are looked at, names of members too, and text that is JSON itself where
it has escapes; the model's name alone is not. What is no text (pictures, sound, files, prompts given as numbers of
tokens) cannot be looked at: by the rule it is refused, or passes.

A placeholder is `@`, the detector's label, letters that are drawn for this request after it was received, and a number of
four digits: plain ASCII, so that no JSON, no escape and no tokenizer alters it, and nobody who writes a prompt knows it
beforehand. What a detector finds has none of the characters that JSON escapes, so it can be put back wherever the
placeholder stands, inside the arguments of a tool as well. Each way of writing a thing has a placeholder of its own, and
so what is put back is what was written.

Embeddings have no answer to put anything back into, and should not differ from call to call: there the label alone stands.

The placeholders and what stands behind them live as long as the call, in memory. They are in no log and in no record.
"""

from __future__ import annotations

import re
import secrets
from itertools import islice
from string import ascii_lowercase
from typing import Any

import msgspec

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.plane import request
from gongqi.resources.serving.plane.duties import Recipe

MAX_MASKS = 10_000  # in one request; the number of a placeholder has four digits
MAX_LETTERS = 2 << 20  # of text in one request: as much as a model reads; looking at more would keep all calls waiting
MAX_DEPTH = 200  # of a body, with what is JSON within its texts; deeper ones are not walked, and so not sent
DIGITS = 4
LETTERS = 12  # drawn for a request: 56 bits
START = "@"
_PLACEHOLDER = re.compile(rb"@[a-z]+-[a-z]{%d}-[0-9]{%d}" % (LETTERS, DIGITS))
_UNSAFE = re.compile(r'["\\\x00-\x1f]')  # what JSON escapes
_PICTURE = re.compile(r"\s*data:[^,]{0,200};base64,", re.IGNORECASE)
MEDIA = frozenset((  # parts that are not text, as OpenAI's and Anthropic's APIs name them
    "image_url", "input_audio", "file", "video_url", "input_image", "input_file", "input_video", "computer_screenshot",
    "image", "document", "container_upload", "audio",
))  # fmt: skip
TOKENS = ("prompt", "input")  # what may be given as numbers of tokens


class Masks:
    """Of one request. `count`: how often something was masked."""

    __slots__ = ("_behind", "_is_constant", "_looked_at", "_placeholders", "_prefixes", "_recipe", "_word", "count")

    def __init__(self, recipe: Recipe, *, is_constant: bool = False) -> None:
        self.count = 0
        self._looked_at = 0  # letters
        self._recipe = recipe
        self._is_constant = is_constant
        self._word = ""  # drawn when something is found
        self._placeholders: dict[str, str] = {}  # by what stands behind
        self._behind: dict[bytes, bytes] = {}
        self._prefixes: set[str] = set()  # of placeholders, up to their number

    # ---- out

    def body(self, body: bytes) -> bytes:
        """A request's body with nothing in it that a detector finds, written anew: a member that is given twice is read
        once, and what was not read must not leave.

        Raises Refused: serving.unmaskable, serving.masks-too-many, serving.logprobs-masked.
        """
        document = request.whole(body)
        model = {"model": document.pop("model")} if "model" in document else {}
        for name in TOKENS:
            if _has_numbers(document.get(name)):
                raise self._refused("tokens")
        masked = model | self._value(document, 0)
        if self.count and _asks_how_likely(document):
            raise Refused("serving.logprobs-masked", rule=self._recipe.cited.rule)
        return msgspec.json.encode(masked)

    def text(self, text: str, depth: int = 0) -> str:
        """`depth` at which it stands in the body. Raises as `body`."""
        self._looked_at += len(text)
        if self._looked_at > MAX_LETTERS:
            raise self._refused("size")
        if "\\u" in text and (found := self._within(text, depth)) is not None:
            return found
        found = (
            (start, end, detector.label) for detector in self._recipe.detectors for start, end in detector.find(text)
        )
        spans = sorted(islice(found, MAX_MASKS + 1))
        if not spans:
            return text
        if len(spans) > MAX_MASKS:  # before the rest of them is looked for
            raise Refused("serving.masks-too-many", limit=MAX_MASKS)
        told: list[str] = []
        last = 0
        for start, end, label in _joined(spans):
            told += (text[last:start], self._placeholder(label, text[start:end]))
            last = end
        return "".join(told) + text[last:]

    def _within(self, text: str, depth: int) -> str | None:
        """A text that is JSON, with escapes that hide what it says: read, masked and written anew."""
        try:
            value = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
            return None
        before = self.count
        masked = self._value(value, depth + 1)
        return msgspec.json.encode(masked).decode() if self.count > before else None

    def _placeholder(self, label: str, said: str) -> str:
        if _UNSAFE.search(said):
            raise self._refused("form")
        self.count += 1
        if self.count > MAX_MASKS:
            raise Refused("serving.masks-too-many", limit=MAX_MASKS)
        known = self._placeholders.get(said)
        if known is None:
            number = len(self._placeholders)
            self._word = self._word or "".join(secrets.choice(ascii_lowercase) for _ in range(LETTERS))
            prefix = f"{START}{label}-{self._word}-"
            self._prefixes.add(prefix)
            known = f"{START}{label}" if self._is_constant else f"{prefix}{number:0{DIGITS}d}"
            self._placeholders[said] = known
            self._behind[known.encode()] = said.encode("utf-8", "surrogatepass")
        return known

    def _value(self, value: Any, depth: int, *, is_media: bool = False) -> Any:
        if isinstance(value, str):
            return self._said(value, depth, is_media=is_media)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            said = repr(value)
            masked = self.text(said)
            return value if masked == said else masked
        if depth >= MAX_DEPTH:
            raise self._refused("depth")
        if isinstance(value, list):
            return [self._value(each, depth + 1, is_media=is_media) for each in value]
        is_media = is_media or _is_media(value)
        if is_media and self._recipe.media == "refuse":
            raise self._refused("media")
        return {self.text(name, depth): self._value(each, depth + 1, is_media=is_media) for name, each in value.items()}

    def _said(self, text: str, depth: int, *, is_media: bool) -> str:
        """A text masked. Where pictures pass, they do so as they are; what else is said beside them is text."""
        picture = _PICTURE.match(text)
        if picture is not None and self._recipe.media == "refuse":
            raise self._refused("media")
        start = 0 if picture is None else picture.end()
        if (is_media or start) and self._recipe.media == "pass" and _is_base64(text[start:]):
            return text
        return self.text(text, depth)

    def _refused(self, what: str) -> Refused:
        return Refused("serving.unmaskable", what=what, **self._recipe.cited.spoken)

    # ---- back

    def reveal(self, told: bytes) -> bytes:
        """A document, or a piece of text, with what stands behind the placeholders in it."""
        if self._is_constant or b"@" not in told:
            return told
        return _PLACEHOLDER.sub(lambda match: self._behind.get(match[0], match[0]), told)

    def reveal_text(self, told: str) -> str:
        return self.reveal(told.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def split(self, told: str) -> tuple[str, str]:
        """(what may be said now, the end of it that may be the beginning of a placeholder)."""
        start = told.rfind(START)
        if start < 0 or self._is_constant:
            return told, ""
        tail = told[start:]
        is_open = any(
            prefix.startswith(tail) or (tail.startswith(prefix) and len(tail) < len(prefix) + DIGITS)
            for prefix in self._prefixes
        )
        return (told[:start], tail) if is_open else (told, "")


def _joined(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Spans that overlap are one, by the name of the first."""
    joined = [spans[0]]
    for start, end, label in spans[1:]:
        first, last, name = joined[-1]
        if start < last:
            joined[-1] = (first, max(last, end), name)
        else:
            joined.append((start, end, label))
    return joined


def _is_media(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in MEDIA:
        return False
    source = part.get("source")
    is_text = kind == "document" and isinstance(source, dict) and source.get("type") in ("text", "content")
    return not is_text


def _is_base64(text: str) -> bool:
    return len(text) >= 64 and re.fullmatch(r"[A-Za-z0-9+/\r\n]+={0,2}|[A-Za-z0-9_\-]+={0,2}", text) is not None


def _asks_how_likely(document: dict[str, Any]) -> bool:
    """Whether probabilities of tokens are asked for. Those of a placeholder's pieces are not those of what stands behind it,
    and no piece of it can be put back."""
    named = (document.get("logprobs"), document.get("prompt_logprobs"), document.get("top_logprobs") or None)
    include = document.get("include")
    asked = isinstance(include, list) and "message.output_text.logprobs" in include
    return asked or any(each is not None and each is not False for each in named)


def _has_numbers(given: Any) -> bool:
    if not isinstance(given, list):
        return False
    return any(isinstance(each, (int, float)) or _has_numbers(each) for each in given)
