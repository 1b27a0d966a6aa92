"""The page of standards: what stands between a submission and a release, gate by gate."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from gongqi.chain.standards import service
from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read


def load_standards(ctx: Read) -> dict[str, Any]:
    by_source = groupby(service.rules(ctx), key=lambda rule: rule.source)
    return {"gates": [(source, list(rules)) for source, rules in by_source]}


VIEWS = (View("/standards", "standards_list.html", load_standards),)
