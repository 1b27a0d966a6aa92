"""How fees are divided along the lineage of what earned them. Pure thought.

The published policy weighs five shares in basis points: the service that answered, the model, the datasets it learned
from, the compute, the foundation. The rule, in full:

1. A model that names no dataset leaves the datasets' share to the model.
2. The datasets' share is divided equally among the organisations whose datasets are in the lineage, then each one's
   equally among its dataset assets, each once however many of its revisions are in it. Equally, not by records: a count
   of records is the donor's own claim, and an incentive to pad. By organisation first: cutting one dataset into many
   must not take from the others.
3. A dataset that was only used to evaluate is no source: `evaluated-on` is not followed.
4. What does not divide is carried, not given away: fees that are divided by the same claims are one series (a tally),
   and after each of them every account has got its exact share of all of them, rounded down or up to a whole unit
   (`kernel.money.split`). Rounding every fee by itself would give a fee of one unit to the largest share each time.
5. Within an account, what it got is divided among its claims in the same way.

Laws (tests/laws/test_split_laws.py): the parts sum to the fee to the unit; none is negative; no account's total is off
by a unit or more after any series of fees; the result does not depend on the order of anything but the fees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from math import lcm

import orjson

from gongqi.kernel.errors import Refused
from gongqi.kernel.money import split

SHARES = ("service", "model", "datasets", "compute", "foundation")
WHOLE = 10_000  # basis points
EVALUATED_ON = "evaluated-on"
AVAILABLE, COMPUTE = "available", "compute"  # compute is paid apart from what its owner may spend at will

Key = tuple[str, str]
Edge = tuple[str, str, str]  # derived, source, relation


@dataclass(frozen=True, slots=True)
class Receivers:
    """Who stands behind each share. `datasets` is asset id → organisation."""

    service: str
    model: str
    datasets: Mapping[str, str]
    compute: str
    foundation: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A part of every fee of a tally: `weight` of it, a fraction of one. `asset` says for which dataset."""

    share: str
    owner: str
    weight: Fraction
    asset: str | None = None

    @property
    def account(self) -> Key:
        """(owner, code) of the ledger account that is paid."""
        return self.owner, COMPUTE if self.share == "compute" else AVAILABLE

    @property
    def key(self) -> Key:
        return self.share, self.asset or ""


def check_weights(weights: Mapping[str, int]) -> None:
    """Refuse weights that are not the whole. Raises Refused credits.weights-not-whole."""
    total = sum(weights[share] for share in SHARES)
    if total != WHOLE or any(weights[share] < 0 for share in SHARES):
        raise Refused("credits.weights-not-whole", total=total, whole=WHOLE)


def claims(weights: Mapping[str, int], to: Receivers) -> list[Claim]:
    """Who has a claim to how much, in the order of SHARES and of asset ids; the weights sum to one."""
    weigh = {share: Fraction(weights[share], WHOLE) for share in SHARES}
    if not to.datasets:
        weigh |= {"model": weigh["model"] + weigh["datasets"], "datasets": Fraction(0)}
    owners = {"service": to.service, "model": to.model, "compute": to.compute, "foundation": to.foundation}
    assets_of = Counter(to.datasets.values())
    found = []
    for share in SHARES:
        if share != "datasets":
            found.append(Claim(share, owners[share], weigh[share]))
            continue
        for asset, owner in sorted(to.datasets.items()):
            found.append(Claim(share, owner, weigh[share] / len(assets_of) / assets_of[owner], asset))
    return [claim for claim in found if claim.weight]


def ways(revision: str, edges: Sequence[Edge]) -> dict[str, Edge]:
    """Of each revision that `revision` was made from, nearest first, the edge by which the nearest way back leaves it."""
    found: dict[str, Edge] = {}
    frontier = [revision]
    while frontier:
        reached = sorted((source, derived, how) for derived, source, how in edges if derived in frontier)
        frontier = []
        for source, derived, how in reached:
            if how != EVALUATED_ON and source != revision and source not in found:
                found[source] = (derived, source, how)
                frontier.append(source)
    return found


def along(ways: Mapping[str, Edge], claims: Mapping[str, Fraction]) -> dict[Edge, Fraction]:
    """What flows back along each edge when every claim, by the revision that has it, takes its nearest way."""
    flows: dict[Edge, Fraction] = {}
    for node, weight in claims.items():
        while edge := ways.get(node):
            flows[edge] = flows.get(edge, Fraction(0)) + weight
            node = edge[0]
    return flows


def digest(claims: Sequence[Claim]) -> str:
    """SHA-256 of who has a claim to how much: fees with this in common are one tally."""
    rows = [[each.share, each.owner, each.asset, *map(str, each.weight.as_integer_ratio())] for each in claims]
    return sha256(orjson.dumps(rows)).hexdigest()


def divide(fee: int, claims: Sequence[Claim], paid: Sequence[int]) -> list[int]:
    """What each claim gets of `fee`, when it has got `paid` of the fees before."""
    within: dict[Key, dict[Key, Fraction]] = {}
    got: dict[Key, dict[Key, int]] = {}
    for claim, amount in zip(claims, paid, strict=True):
        within.setdefault(claim.account, {})[claim.key] = claim.weight
        got.setdefault(claim.account, {})[claim.key] = amount
    accounts = {account: sum(weights.values(), Fraction()) for account, weights in within.items()}
    gains = split(fee, _whole(accounts), {account: sum(amounts.values()) for account, amounts in got.items()})
    parts = {account: split(gains[account], _whole(within[account]), got[account]) for account in accounts}
    return [parts[claim.account][claim.key] for claim in claims]


def _whole(weights: Mapping[Key, Fraction]) -> dict[Key, int]:
    """The same proportions in integers."""
    denominator = lcm(*(weight.denominator for weight in weights.values()))
    return {key: int(weight * denominator) for key, weight in weights.items()}


def sources(start: str, edges: Iterable[tuple[str, str, str]]) -> list[str]:
    """The revisions that `start` was made from, directly or through others; an edge is (derived, source, relation)."""
    beneath: dict[str, set[str]] = {}
    for derived, source, relation in edges:
        if relation != EVALUATED_ON:
            beneath.setdefault(derived, set()).add(source)
    seen, frontier = {start}, [start]
    while frontier:
        frontier = sorted({source for key in frontier for source in beneath.get(key, ())} - seen)
        seen |= set(frontier)
    return sorted(seen - {start})
