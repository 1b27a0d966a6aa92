"""How one fee is divided along the lineage of what earned it. Pure thought.

The published policy weighs five shares in basis points: the service that answered, the model, the datasets it learned
from, the compute, the foundation. The rule, in full:

1. The fee is divided among the shares by their weights (largest remainder, ties as in `kernel.money.split`).
2. A model that names no dataset leaves the datasets' share to the model.
3. The datasets' part is divided equally among the organisations whose datasets are in the lineage, then each one's
   equally among its dataset assets, each once however many of its revisions are in it. Equally, not by records: a count
   of records is the donor's own claim, and an incentive to pad. By organisation first: cutting one dataset into many
   must not take from the others.
4. A dataset that was only used to evaluate is no source: `evaluated-on` is not followed.

Laws (tests/laws/test_split_laws.py): the parts sum to the fee to the unit; none is negative; the result does not depend
on the order of anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gongqi.kernel.errors import Refused
from gongqi.kernel.money import split

SHARES = ("service", "model", "datasets", "compute", "foundation")
WHOLE = 10_000  # basis points
EVALUATED_ON = "evaluated-on"


@dataclass(frozen=True, slots=True)
class Receivers:
    """Who stands behind each share. `datasets` is asset id → organisation."""

    service: str
    model: str
    datasets: Mapping[str, str]
    compute: str
    foundation: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one receiver gets; `asset` says for which dataset."""

    share: str
    owner: str
    amount: int
    asset: str | None = None


def check_weights(weights: Mapping[str, int]) -> None:
    """Refuse weights that are not the whole. Raises Refused credits.weights-not-whole."""
    total = sum(weights[share] for share in SHARES)
    if total != WHOLE or any(weights[share] < 0 for share in SHARES):
        raise Refused("credits.weights-not-whole", total=total, whole=WHOLE)


def divide(fee: int, weights: Mapping[str, int], to: Receivers) -> list[Part]:
    """The parts of `fee`, in the order of SHARES and of asset ids; parts of nothing are left out."""
    weights = {share: weights[share] for share in SHARES}
    if not to.datasets:
        weights |= {"model": weights["model"] + weights["datasets"], "datasets": 0}
    amounts = split(fee, weights)
    owners = {"service": to.service, "model": to.model, "compute": to.compute, "foundation": to.foundation}
    parts = []
    for share in SHARES:
        if share != "datasets":
            parts.append(Part(share, owners[share], amounts[share]))
        elif to.datasets:
            each = _among(amounts[share], to.datasets)
            parts += [Part(share, to.datasets[asset], each[asset], asset) for asset in sorted(each)]
    return [part for part in parts if part.amount]


def _among(amount: int, datasets: Mapping[str, str]) -> dict[str, int]:
    """asset → its part, equally by organisation and then by asset."""
    of_owner = split(amount, dict.fromkeys(datasets.values(), 1))
    parts: dict[str, int] = {}
    for owner, part in of_owner.items():
        parts |= split(part, {asset: 1 for asset, org in datasets.items() if org == owner})
    return parts


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
