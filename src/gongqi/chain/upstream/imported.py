"""At the release gate: what was imported is published under the licence that it had where it came from, or not at all.

The card here may say more than the card there, and in other words; the licence is not ours to change. A work that had
none there has none: whoever wants it published asks its authors, who then say so there. What each licence allows is
for compliance to answer; here it is only whether it is the same.
"""

from __future__ import annotations

from gongqi.governance.compliance import service as compliance
from gongqi.kernel.gates import Answer, by_policy
from gongqi.kernel.verbs import Read
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.gates import ReleaseQuestion

CITE = by_policy("donation", 6)


def answer_import(ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    origin = hub.latest_origin(ctx, question.asset)
    if origin is None:
        return [Answer("allow", "upstream.gate.not-imported", cites=(CITE,))]
    here = str(question.card.get("license") or "")
    told = {"repo": origin.repo, "there": origin.license or "", "here": here}
    if origin.license is None:
        return [Answer("deny", "upstream.gate.import-without-licence", told, (CITE,))]
    there = compliance.expression(origin.license)
    if there is None:
        return [Answer("deny", "upstream.gate.import-licence-unknown", told, (CITE,))]
    if compliance.expression(here) != there:
        return [Answer("deny", "upstream.gate.import-licence-differs", told, (CITE,))]
    return [Answer("allow", "upstream.gate.import-licence-kept", told, (CITE,))]
