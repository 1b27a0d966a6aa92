"""Gates: a question declared low and answered high.

`hub` declares RELEASE_PUBLISH and knows nobody who answers. Compliance, ethics and packs answer with `allow`, `deny` or
`require`. Answers join: any deny wins, duties add up. So a room above can stop a step below without being imported by it,
and adding an answerer can only tighten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from gongqi.kernel.verbs import Read

Decision = Literal["allow", "deny", "require"]
POLICY_PATH = "/standards/policy/"
POLICY_DATE = "2026-11-23"  # of the foundation's own policies as they now read


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a rule comes from. `authority`: statute, ministerial, standard, guideline, policy or interpretation."""

    source: str
    article: str
    authority: str
    date: str
    url: str = ""


def by_policy(name: str, article: int) -> Citation:
    """An article of the foundation's own policy `name`; its text is on the page of standards."""
    return Citation(
        f"Gongqi {name} policy", str(article), "policy", POLICY_DATE, f"{POLICY_PATH}{name}#article-{article}"
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """One reason: `reason` is a text key, `params` fill it, `cites` say by what right.

    `require` allows the step but leaves a duty, whose text key is `reason`. A misspelt decision, say from a rule
    table, is an error and never an allow.
    """

    decision: Decision
    reason: str
    params: Mapping[str, Any] = field(default_factory=dict)
    cites: Sequence[Citation] = ()
    evidence: str | None = None

    def __post_init__(self) -> None:
        if self.decision not in get_args(Decision):
            raise ValueError(f"gate answer {self.reason}: {self.decision!r} is not a decision")


@dataclass(frozen=True, slots=True)
class Gate:
    name: str
    ask: type


@dataclass(frozen=True, slots=True)
class Answerer:
    """`source` names who answers, as shown to people: `compliance.licence`, `ethics.board`, …"""

    gate: Gate
    source: str
    answer: Callable[[Read, Any], Sequence[Answer]]


@dataclass(frozen=True, slots=True)
class Verdict:
    gate: str
    answers: Mapping[str, Sequence[Answer]]

    @property
    def allowed(self) -> bool:
        return not any(answer.decision == "deny" for answers in self.answers.values() for answer in answers)

    @property
    def denials(self) -> list[tuple[str, Answer]]:
        return [(source, a) for source, answers in self.answers.items() for a in answers if a.decision == "deny"]

    @property
    def duties(self) -> list[tuple[str, Answer]]:
        return [(source, a) for source, answers in self.answers.items() for a in answers if a.decision == "require"]

    def as_json(self) -> dict[str, Any]:
        return {
            "gate": self.gate,
            "allowed": self.allowed,
            "answers": [
                {
                    "source": source,
                    "decision": answer.decision,
                    "reason": answer.reason,
                    "params": dict(answer.params),
                    "cites": [asdict(cite) for cite in answer.cites],
                    "evidence": answer.evidence,
                }
                for source, answers in self.answers.items()
                for answer in answers
            ],
        }
