"""The page of standards: what stands between a submission and a release, gate by gate. And on the page of a release, what
there is to check it with other people's tools."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from gongqi.chain.standards import proofs, service
from gongqi.chain.standards.policies import policies
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.gates import POLICY_PATH
from gongqi.kernel.room import Panel, View
from gongqi.kernel.verbs import Read


def load_standards(ctx: Read) -> dict[str, Any]:
    by_source = groupby(service.rules(ctx), key=lambda rule: rule.source)
    return {"gates": [(source, list(rules)) for source, rules in by_source], "policies": policies().values()}


def load_policy(_ctx: Read, name: str) -> dict[str, Any]:
    if name not in policies():
        raise Refused("access.not-found", kind="policy", key=name[:100])
    return {"policy": policies()[name]}


def load_release_panel(ctx: Read, key: str) -> dict[str, Any] | None:
    try:
        return {"proof": proofs.show_proof.run(ctx, proofs.OneProof(release=key))}
    except Unavailable:
        return {"proof": None}
    except Refused:
        return None  # not published


VIEWS = (
    View("/standards", "standards_list.html", load_standards),
    View(POLICY_PATH + "{name}", "standards_policy.html", load_policy),
)
PANELS = (Panel("hub_release.html", "standards_release_panel.html", load_release_panel),)
