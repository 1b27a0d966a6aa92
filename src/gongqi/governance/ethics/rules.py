"""What the ethics review decides, as pure thought: figures against thresholds, votes against the board's rules.

Figures. The thresholds are data (`data/thresholds.yaml`) and the foundation's policy, not statute; every answer cites
its row. An unknown figure counts as missed, so leaving a figure out never helps a release.

Board. A decision binds one revision digest. Reviewers with a conflict of interest are recused before they see the
facts; the quorum counts those who voted among the others. The last vote of a person before closing counts; of two votes
at the same instant, the more cautious one. More approvals than refusals approve; a tie refuses, as does a missing
quorum. The board decides when voting closes, or earlier when everybody who may vote has voted; the first decision that
is not open is final, and the caller records it. An approval expires after its validity, or when a condition is overdue.

Source: the practice of research ethics committees on quorum, recusal, conditions and continuing review (45 CFR 46.107
to 46.109; WHO, Standards and operational guidance for ethics review, 2011). Paired comparison of two
models: McNemar, Psychometrika 12 (1947) 153-157, in its exact form.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import yaml

from gongqi.governance.ethics.tasks import TASKS
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Answer, Citation, by_policy

Choice = Literal["approve", "refuse", "abstain"]
State = Literal["open", "approved", "refused", "expired"]
CAUTION: Mapping[str, int] = {"approve": 0, "abstain": 1, "refuse": 2}
SIGNIFICANCE = 0.05  # the customary level; the p-value itself is always shown beside the conclusion
MAXIMUM_TEXT = 4000  # of a condition: a page; what is longer belongs in a document


# ---- policy


@dataclass(frozen=True, slots=True)
class Threshold:
    id: str
    metric: str
    bound: float
    is_minimum: bool
    otherwise: Literal["deny", "require"]
    cite: Citation
    tasks: tuple[str, ...] = TASKS  # of whose evaluations it is asked

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.is_minimum else value <= self.bound


@dataclass(frozen=True, slots=True)
class BoardRules:
    quorum: int
    voting_days: int
    validity_days: int
    cite: Citation


@dataclass(frozen=True, slots=True)
class Policy:
    set_by: str
    board: BoardRules
    thresholds: tuple[Threshold, ...]

    def asked(self, task: str) -> tuple[Threshold, ...]:
        """The rows that an evaluation of this task is held to."""
        return tuple(row for row in self.thresholds if task in row.tasks)


def parse_policy(text: str) -> Policy:
    """Read the policy from YAML. Raises ValueError naming the row that is wrong; meant for start-up."""
    content = yaml.safe_load(text)
    head, board = content["policy"], content["board"]

    thresholds = []
    for row in content["thresholds"]:
        bounds = row.keys() & {"at_least", "at_most"}
        unknown = row.keys() - {"id", "article", "tasks", "metric", "otherwise", "at_least", "at_most"}
        tasks = tuple(row.get("tasks", TASKS))
        is_wrong = unknown or not tasks or set(tasks) - set(TASKS)
        if len(bounds) != 1 or is_wrong or row["otherwise"] not in ("deny", "require"):
            raise ValueError(f"ethics policy: row {row.get('id')} is not a threshold")
        (kind,) = bounds
        thresholds.append(
            Threshold(
                row["id"],
                row["metric"],
                float(row[kind]),
                kind == "at_least",
                row["otherwise"],
                by_policy("ethics", row["article"]),
                tasks,
            )
        )
    if len({row.id for row in thresholds}) != len(thresholds):
        raise ValueError("ethics policy: two thresholds have one id")
    if min(board["quorum"], board["voting_days"], board["validity_days"]) < 1:
        raise ValueError("ethics policy: quorum, voting_days and validity_days are at least 1")
    rules = BoardRules(
        board["quorum"], board["voting_days"], board["validity_days"], by_policy("ethics", board["article"])
    )
    return Policy(head["set_by"], rules, tuple(thresholds))


# ---- figures


def gate_verdict(
    metrics: Mapping[str, float | None], thresholds: Iterable[Threshold], *, evidence: str | None = None
) -> list[Answer]:
    """One answer a threshold; `metrics` as in an evaluation's result, `evidence` the evaluation's digest."""
    answers = []
    for row in thresholds:
        value = metrics.get(row.metric)
        if value is None or not math.isfinite(value):
            unknown = {"metric": row.metric, "limit": _plain(row.bound)}
            answers.append(Answer(row.otherwise, "ethics.gate.unknown", unknown, (row.cite,), evidence))
            continue
        met = row.is_met(value)
        reason = f"ethics.gate.{row.id}.{'met' if met else 'missed'}"
        figures = {"value": _plain(value), "limit": _plain(row.bound)}
        answers.append(Answer("allow" if met else row.otherwise, reason, figures, (row.cite,), evidence))
    return answers


def _plain(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in two evaluations; `is_better` is None when it did not move or cannot be known."""

    metric: str
    before: float | None
    after: float | None
    is_better: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same records. `gained` were wrong and are right; `p_value` is McNemar's exact, two-sided."""

    changes: tuple[Change, ...]
    records: int
    gained: int
    lost: int
    p_value: float


_HIGHER_IS_BETTER = (
    "accuracy", "chance_corrected_accuracy", "accuracy_norm", "ndcg_at_10", "balanced_accuracy", "roc_auc",
)  # fmt: skip
_LOWER_IS_BETTER = ("brier", "expected_calibration_error", "false_negative_rate", "accuracy_gap")


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """What got better from one evaluation to the next, and whether chance would explain it. Raises Refused."""
    same = ("schema", "task", "data_sha256", "target", "records")
    if any(before.get(key) != after.get(key) for key in same):
        raise Refused("ethics.evaluations-not-comparable")
    changes = []
    for metric in _HIGHER_IS_BETTER + _LOWER_IS_BETTER:
        if metric not in before["metrics"].keys() | after["metrics"].keys():
            continue
        old, new = before["metrics"].get(metric), after["metrics"].get(metric)
        is_better = None
        if old is not None and new is not None and old != new:
            is_better = (new > old) == (metric in _HIGHER_IS_BETTER)
        changes.append(Change(metric, old, new, is_better))
    old_hits, new_hits = int(before["hits"], 16), int(after["hits"], 16)
    gained, lost = (new_hits & ~old_hits).bit_count(), (old_hits & ~new_hits).bit_count()
    return Comparison(tuple(changes), before["records"], gained, lost, mcnemar(gained, lost))


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided exact p-value that as uneven a split of the changed records comes from a fair coin."""
    changed = gained + lost
    tail = sum(math.comb(changed, few) for few in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def conclusion(comparison: Comparison) -> str:
    """The text key of what may be concluded: a difference that chance would often make is called unproven."""
    if comparison.gained == comparison.lost:
        return "ethics.compare.even"
    direction = "better" if comparison.gained > comparison.lost else "worse"
    proven = comparison.p_value < SIGNIFICANCE
    return f"ethics.compare.{direction}" if proven else f"ethics.compare.{direction}-unproven"


# ---- board


@dataclass(frozen=True, slots=True)
class Vote:
    reviewer: str
    choice: Choice
    digest: str
    cast_at: datetime
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """What an approval asks for: of whom, until when, and when it was met."""

    text: str
    owner: str
    due_at: datetime
    met_at: datetime | None = None

    def is_overdue(self, now: datetime) -> bool:
        return now >= self.due_at and (self.met_at is None or self.met_at >= self.due_at)


@dataclass(frozen=True, slots=True)
class Decision:
    """`counted` holds the one vote of each reviewer that counts, the minority's too, in the order of names."""

    state: State
    digest: str
    answers: tuple[Answer, ...]
    counted: tuple[Vote, ...]
    decided_at: datetime | None = None
    expires_at: datetime | None = None


def conflicted(affiliations: Mapping[str, Collection[str]], parties: Collection[str]) -> frozenset[str]:
    """The reviewers who belong to an organisation that donates, owns or is paid for what is reviewed."""
    return frozenset(reviewer for reviewer, homes in affiliations.items() if set(homes) & set(parties))


def admit_vote(
    reviewer: str,
    *,
    voted_digest: str,
    digest: str,
    roster: Collection[str],
    recused: Collection[str],
    opened_at: datetime,
    closes_at: datetime,
    now: datetime,
) -> None:
    """Say whether this person may vote on this revision now. Raises Refused."""
    if reviewer not in roster:
        raise Refused("ethics.not-a-reviewer")
    if reviewer in recused:
        raise Refused("ethics.conflict-of-interest")
    if voted_digest != digest:
        raise Refused("ethics.vote-on-another-revision", voted=voted_digest[:80], digest=digest)
    if now < opened_at:
        raise Refused("ethics.voting-not-open", opens=_minute(opened_at))
    if now >= closes_at:
        raise Refused("ethics.voting-closed", closed=_minute(closes_at))


def check_condition(condition: Condition, *, now: datetime) -> None:
    """A condition can be met and checked: it has a text, an owner and a day that is still to come. Raises Refused."""
    if not condition.text.strip() or not condition.owner.strip():
        raise Refused("ethics.condition-incomplete")
    if len(condition.text) > MAXIMUM_TEXT:
        raise Refused("ethics.condition-too-long", maximum=MAXIMUM_TEXT)
    if condition.due_at <= now:
        raise Refused("ethics.condition-in-the-past", due=_minute(condition.due_at))


def decide(
    votes: Iterable[Vote],
    *,
    digest: str,
    roster: Collection[str],
    recused: Collection[str],
    quorum: int,
    opened_at: datetime,
    closes_at: datetime,
    now: datetime,
    conditions: Sequence[Condition] = (),
    validity_days: int,
    cite: Citation,
) -> Decision:
    """The board's decision on the revision `digest` as it stands at `now`."""
    assert quorum >= 1 and validity_days >= 1 and opened_at < closes_at
    electors = frozenset(roster) - frozenset(recused)
    counted = _counted(votes, digest=digest, electors=electors, opened_at=opened_at, closes_at=closes_at, now=now)
    tally = {choice: sum(vote.choice == choice for vote in counted) for choice in CAUTION}
    figures = {**tally, "voted": len(counted), "quorum": quorum, "electors": len(electors)}
    everybody = len(electors) >= quorum and len(counted) == len(electors)

    def answer(decision: Literal["allow", "deny", "require"], name: str, **more: str) -> Answer:
        return Answer(decision, f"ethics.board.{name}", {**figures, **more}, (cite,))

    if now < closes_at and not everybody:
        waiting = [answer("deny", "open", closes=_minute(closes_at))]
        if len(electors) < quorum:
            waiting.append(answer("deny", "quorum-unreachable"))
        return Decision("open", digest, tuple(waiting), counted)

    decided_at = max(vote.cast_at for vote in counted) if everybody else closes_at
    if len(counted) < quorum:
        return Decision("refused", digest, (answer("deny", "quorum-missing"),), counted, decided_at)
    if tally["approve"] <= tally["refuse"]:
        name = "tie" if tally["approve"] == tally["refuse"] else "refused"
        return Decision("refused", digest, (answer("deny", name),), counted, decided_at)

    expires_at = decided_at + timedelta(days=validity_days)
    ends = [answer("deny", "expired", expired=_minute(expires_at))] if now >= expires_at else []
    ends += [
        answer("deny", "condition-overdue", text=each.text, owner=each.owner, due=_minute(each.due_at))
        for each in conditions
        if each.is_overdue(now)
    ]
    if ends:
        return Decision("expired", digest, tuple(ends), counted, decided_at, expires_at)
    duties = [
        answer("require", "condition", text=each.text, owner=each.owner, due=_minute(each.due_at))
        for each in conditions
        if each.met_at is None
    ]
    approval = answer("allow", "approved", expires=_minute(expires_at))
    return Decision("approved", digest, (approval, *duties), counted, decided_at, expires_at)


def _counted(
    votes: Iterable[Vote],
    *,
    digest: str,
    electors: Collection[str],
    opened_at: datetime,
    closes_at: datetime,
    now: datetime,
) -> tuple[Vote, ...]:
    """The last vote in time of each elector on this digest, whatever order the votes arrive in."""
    last: dict[str, Vote] = {}
    for vote in votes:
        is_in_time = opened_at <= vote.cast_at <= now and vote.cast_at < closes_at
        if vote.digest != digest or vote.reviewer not in electors or not is_in_time:
            continue
        held = last.get(vote.reviewer)
        if held is None or _rank(vote) > _rank(held):
            last[vote.reviewer] = vote
    return tuple(last[reviewer] for reviewer in sorted(last))


def _rank(vote: Vote) -> tuple[datetime, int, str]:
    return vote.cast_at, CAUTION[vote.choice], vote.rationale


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
