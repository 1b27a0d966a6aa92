"""What the law of a place asks of a call, as the data plane goes by it: what is masked, what is labelled, what is denied.

Which duties there are is decided above, by those who answer `serving.gates.CALL_FORWARD`; here are their forms alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Media = Literal["refuse", "pass"]


@dataclass(frozen=True, slots=True)
class Detector:
    """`find` gives the (start, end) of what it looks for in a text; `label`, small letters, stands in placeholders."""

    name: str
    label: str
    find: Callable[[str], Iterable[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Cited:
    """The rule by which something is done, as it is told."""

    rule: str
    source: str
    article: str
    authority: str
    date: str
    url: str = ""

    @property
    def spoken(self) -> dict[str, str]:
        """For the words of a refusal."""
        return {
            "rule": self.rule, "source": self.source, "article": self.article, "authority": self.authority,
            "date": self.date,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is masked, by which rule, and what becomes of what cannot be."""

    detectors: tuple[Detector, ...]
    media: Media
    cited: Cited


@dataclass(frozen=True, slots=True)
class Label:
    """What marks an answer as generated: `fields` under `member` for machines, `{call}` standing for its id; or `text` for
    people."""

    member: str
    fields: Mapping[str, str] | bool
    cited: Cited
    text: str = ""


@dataclass(frozen=True, slots=True)
class Duty:
    """Of calls from one place to one region. `denied`: by what they may not be made; `rules` is what the list of models
    says of it."""

    rules: tuple[Mapping[str, Any], ...] = ()
    denied: Cited | None = None
    mask: Recipe | None = None
    labels: tuple[Label, ...] = ()
