"""Words: every sentence the product says, in 中文 and English, side by side under one key.

Each room keeps a `words.toml` with four tables: `[error."code"]`, `[verb."room:noun:verb"]`, `[read."…"]` and `[text]`.
Neither language is a translation of the other's source string, which is why this is not gettext. Start-up refuses a
house in which a key lacks a language, an error lacks a remedy, or a verb has no label.
"""

from __future__ import annotations

import functools
import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gongqi.kernel.errors import GongqiError

LANGUAGES = ("zh", "en")
DEFAULT_LANGUAGE = "en"
_TAGS = {"zh": "zh-CN", "en": "en"}


@dataclass(frozen=True, slots=True)
class ErrorWords:
    code: str
    status: int
    message: Mapping[str, str]
    remedy: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class VerbWords:
    label: Mapping[str, str]
    help: Mapping[str, str]


class _Lenient(string.Formatter):
    """Leaves `{name}` standing when a parameter is missing: a wrong word must not hide an error."""

    def get_value(self, key: int | str, args: object, kwargs: Mapping[str, object]) -> object:
        return kwargs.get(str(key), f"{{{key}}}")


_FORMAT = _Lenient()


class Words:
    def __init__(self) -> None:
        self.errors: dict[str, ErrorWords] = {}
        self.verbs: dict[str, VerbWords] = {}
        self.texts: dict[str, Mapping[str, str]] = {}

    def load(self, path: Path) -> None:
        """Add one room's words. Raises ValueError naming the key that is double, unknown or monolingual."""
        content = dict(_parsed(path))
        for code, row in content.pop("error", {}).items():
            self._add(
                self.errors, code, ErrorWords(code, int(row["status"]), _both(code, row), _both(code, row, "remedy_"))
            )
        for table in ("verb", "read"):
            for name, row in content.pop(table, {}).items():
                self._add(self.verbs, name, VerbWords(_both(name, row), _both(name, row, "help_")))
        for key, row in content.pop("text", {}).items():
            self._add(self.texts, key, _both(key, row))
        if content:
            raise ValueError(f"{path}: unknown tables {sorted(content)}")

    @staticmethod
    def _add(table: dict, key: str, value: object) -> None:
        if key in table:
            raise ValueError(f"words: {key} is defined twice")
        table[key] = value

    def text(self, key: str, language: str, **params: object) -> str:
        """The sentence `key` in `language`; a key nobody wrote shows as itself, and a test finds it."""
        row = self.texts.get(key)
        return _FORMAT.vformat(row[language], (), params) if row else key

    def has(self, key: str) -> bool:
        return key in self.texts

    def error(self, error: GongqiError, language: str) -> tuple[int, str, str]:
        """(status, message, remedy) of an error in one language.

        A parameter that is itself a code is worded when there is a text `<code of the error>.<parameter>.<its value>`.
        """
        words = self.errors.get(error.code) or self.errors["kernel.broken"]
        params = {name: self._worded(error, name, language) for name in error.params}
        return (
            words.status,
            _FORMAT.vformat(words.message[language], (), params),
            _FORMAT.vformat(words.remedy[language], (), params),
        )

    def _worded(self, error: GongqiError, name: str, language: str) -> object:
        row = self.texts.get(f"{error.code}.{name}.{error.params[name]}")
        return _FORMAT.vformat(row[language], (), error.params) if row else error.params[name]


@functools.cache
def _parsed(path: Path) -> Mapping[str, Any]:
    """Words do not change while a process runs, and to parse them is half of what it costs to build a house."""
    return tomllib.loads(path.read_text("utf-8"))


def _both(key: str, row: Mapping[str, object], prefix: str = "") -> Mapping[str, str]:
    both = {language: str(row.get(prefix + language) or "") for language in LANGUAGES}
    if not all(both.values()):
        raise ValueError(f"words: {key} lacks {prefix}{' or '.join(k for k, v in both.items() if not v)}")
    return both


def tag(language: str) -> str:
    """The BCP 47 tag for an HTML `lang` attribute."""
    return _TAGS[language]


def negotiate(header: str | None) -> str:
    """Choose a language from an `Accept-Language` header (RFC 9110 §12.5.4); English when none fits."""
    if not header:
        return DEFAULT_LANGUAGE
    best, best_quality = DEFAULT_LANGUAGE, 0.0
    for position, part in enumerate(header.split(",")[:16]):
        match = re.fullmatch(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,32})?\s*(?:;\s*q=([0-9.]{1,5}))?\s*", part)
        if not match or match[1].lower() not in LANGUAGES:
            continue
        try:
            quality = float(match[2] or 1) - position * 1e-6
        except ValueError:
            continue
        if quality > best_quality:
            best, best_quality = match[1].lower(), quality
    return best
