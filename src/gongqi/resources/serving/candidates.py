"""Which servers may be tried behind a model's name, in a roll-out or as its shadow.

What holds for the name holds for whoever answers under it, seen or unseen: calls of a model that says its region go to
servers of that region alone, a release is published, and its licence is the one that callers have read.
"""

from __future__ import annotations

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Write
from gongqi.resources.serving.deployments import servable
from gongqi.resources.serving.endpoints import require_fit
from gongqi.resources.serving.models import ModelEndpoint, ModelRoute
from gongqi.resources.serving.routes import stated_of


def stays(route: ModelRoute, endpoint: ModelEndpoint) -> bool:
    """Whether what is asked of this model stays in the region that it says."""
    return not route.region or endpoint.region == route.region


def candidate(ctx: Write, route: ModelRoute, endpoint: str, model: str, release: str | None) -> str | None:
    """The release that would answer there, None for an outside model.

    Raises Refused: serving.route-retired, serving.endpoint-retired, serving.endpoint-unfit, serving.target-known,
    serving.region-differs, serving.release-unsaid, serving.release-differs, serving.licence-differs, and what `servable`
    raises.
    """
    found = ctx.find(ModelEndpoint, endpoint, to="serving:endpoint:read")
    if route.state != "ready":
        raise Refused("serving.route-retired", name=route.name)
    if found.state != "ready":
        raise Refused("serving.endpoint-retired", name=found.name)
    require_fit(found, route.name, route.kind)
    if any((each["endpoint"], each["model"]) == (endpoint, model) for each in route.targets):
        raise Refused("serving.target-known", name=route.name, endpoint=found.name)
    if not stays(route, found):
        raise Refused("serving.region-differs", name=route.name, region=route.region, found=found.region or "–")
    if found.release is not None and release not in (None, found.release):
        raise Refused("serving.release-differs", endpoint=found.name, release=found.release)
    release = found.release or release
    if release is None:
        if route.release is not None:
            raise Refused("serving.release-unsaid", name=route.name)
        return None
    licence = stated_of(ctx, servable(ctx, release))["licence"]
    if licence != route.licence:
        raise Refused("serving.licence-differs", name=route.name, licence=route.licence or "–", found=licence or "–")
    return release
