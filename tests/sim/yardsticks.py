"""Records that small models of texts can be evaluated on, because they are made for them; and a writer that is told what it
finds likely, so that every figure can be worked out on paper.

`pairs` are for `tiny_models.embedder`, which knows no capitals: the prompt is its answer in capitals. `questions` are for
`tiny_models.writer`, to which letters are likelier than other bytes: the right choice is the one of letters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Record = dict[str, Any]
LANGUAGES = ("en", "zh")
WORDS = {"en": "the quick brown fox", "zh": "公器"}


def pairs(count: int = 120, *, wrong: int = 0) -> list[Record]:
    """Half in each language, in turn. The first `wrong` of the English ones have each other's answers, in pairs."""
    rows = []
    for number in range(count):
        language = LANGUAGES[number % 2]
        text = f"{WORDS[language]} {number}"
        rows.append({"prompt": text.upper(), "answer": text, "language": language})
    assert wrong % 2 == 0
    for number in range(0, 2 * wrong, 4):
        one, other = rows[number], rows[number + 2]
        one["answer"], other["answer"] = other["answer"], one["answer"]
    return rows


def questions(count: int = 120) -> list[Record]:
    rows = []
    for number in range(count):
        letters, marks = "".join(chr(97 + (number * step) % 26) for step in (1, 3, 5)), "\x01\x02\x03"
        label = number % 3 % 2
        rows.append(
            {
                "prompt": f"{number}:", "choices": [marks, letters] if label else [letters, marks], "label": label,
                "language": LANGUAGES[number % 2],
            }
        )  # fmt: skip
    return rows


def lines(rows: Sequence[Record]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def card(task: str = "retrieval", **more: Any) -> bytes:
    """Of the dataset: JSON is YAML."""
    declared = {"task": task, "subgroup": {"column": "language", "kind": "values"}} | more
    return f"""---
license: CC-BY-4.0
title: {{zh: 评测集, en: A yardstick}}
summary: {{zh: 为小模型所作, en: Made for a small model}}
provenance: made by the tests
intended_use: evaluation
limitations: it says nothing of the world
contact: nobody@example.org
evaluation: {json.dumps(declared)}
---
# Records
""".encode()


class ScriptedWriter:
    """A token for each character, after one for the beginning. `likely`: the logarithm of a character's likelihood, whatever
    stands before it; `written`: what it goes on with after a prompt."""

    def __init__(
        self,
        likely: Mapping[str, float] | None = None,
        written: Mapping[str, str] | None = None,
        *,
        context: int = 4096,
    ) -> None:
        self.likely, self.written, self.context = likely or {}, written or {}, context

    def prompt(self, text: str) -> list[int]:
        return [1, *self.tokens(text)]

    def tokens(self, text: str) -> list[int]:
        return [ord(each) + 10 for each in text]

    def likelihoods(self, start: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
        assert start and all(endings), "an engine has to begin with something, and to end with something"
        return [sum(self.likely.get(chr(token - 10), 0.0) for token in ending) for ending in endings]

    def steps(self, tokens: Sequence[int], wishes: Any, limit: int) -> Iterator[Any]:
        from gongqi.resources.serving.engines.writer import Step

        assert wishes.temperature == 0.0, "without chance"
        prompt = "".join(chr(token - 10) for token in tokens[1:])
        yield from (Step(each.encode()) for each in self.written[prompt][:limit])
