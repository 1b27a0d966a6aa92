"""The page of a release's compliance verdict."""

from __future__ import annotations

from typing import Any

from gongqi.governance.compliance import service
from gongqi.governance.compliance.tables import CLASSES
from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read
from gongqi.resources.hub import service as hub


def load_verdict(ctx: Read, release: str) -> dict[str, Any]:
    verdict = service.show_verdict.run(ctx, service.OneVerdict(release=release))
    shown = hub.get_release.run(ctx, hub.OneRelease(release=release))
    reasons = [
        {
            "effect": answer["decision"],
            "text": answer[ctx.language],
            "cite": "; ".join(f"{cite['source']} · {cite['date']}" for cite in answer["cites"]),
            "href": next((cite["url"] for cite in answer["cites"] if cite["url"]), None),
        }
        for answer in verdict.answers
    ]
    return {
        "verdict": verdict,
        "release": shown,
        "asset": hub.asset_out(ctx, shown.asset),
        "reasons": reasons,
        "classes": CLASSES,
    }


VIEWS = (View("/compliance/{release}", "compliance_verdict.html", load_verdict),)
