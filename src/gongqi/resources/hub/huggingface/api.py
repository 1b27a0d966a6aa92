"""The routes of this door, for models and for datasets."""

from __future__ import annotations

from gongqi.kernel.room import Endpoint
from gongqi.resources.hub.huggingface import commits, identity, lfs, repositories, requests, resolve, trees, xet
from gongqi.resources.hub.huggingface.door import endpoint, question, streaming
from gongqi.resources.hub.huggingface.forms import KINDS, PREFIX


def _of(kind: str) -> tuple[Endpoint, ...]:
    api, named = f"/api/{KINDS[kind]}", f"/api/{KINDS[kind]}/{{org}}/{{slug}}"
    plain = f"/{PREFIX[kind]}{{org}}/{{slug}}"
    table = (
        ("GET", api, repositories.listing),
        ("PUT", f"{named}/settings", repositories.settings),
        ("GET", f"{named}/auth-check", repositories.auth_check),
        ("GET", f"{named}/auth-check/write", repositories.auth_check),
        ("GET", f"{named}/tree/{{rest:path}}", trees.tree),
        ("POST", f"{named}/paths-info/{{rev:path}}", trees.paths_info),
        ("GET", f"{named}/refs", trees.list_refs),
        ("GET", f"{named}/commits/{{rev:path}}", trees.commits),
        ("POST", f"{named}/branch/{{name:path}}", trees.create_branch),
        ("DELETE", f"{named}/branch/{{name:path}}", trees.delete_branch),
        ("POST", f"{named}/tag/{{name:path}}", trees.create_tag),
        ("DELETE", f"{named}/tag/{{name:path}}", trees.delete_tag),
        ("POST", f"{named}/super-squash/{{name:path}}", trees.squash),
        ("POST", f"{named}/preupload/{{rev:path}}", commits.preupload),
        ("GET", f"{named}/xet-write-token/{{rev:path}}", xet.write_token),
        ("GET", f"{named}/xet-read-token/{{rev:path}}", xet.read_token),
        ("GET", f"{named}/user-access-request/{{status}}", requests.listed),
        ("POST", f"{named}/user-access-request/handle", requests.handle),
        ("POST", f"{named}/user-access-request/grant", requests.grant),
        ("POST", f"{plain}.git/info/lfs/objects/batch", lfs.batch),
    )
    return (
        question(named, repositories.info, kind=kind),
        question(f"{named}/revision/{{rev:path}}", repositories.info, kind=kind),
        *(endpoint(method, path, handle, kind=kind) for method, path, handle in table),
        streaming("POST", f"{named}/commit/{{rev:path}}", commits.commit, kind=kind),
        question(f"{plain}/resolve/{{rest:path}}", resolve.resolve, kind=kind, group="resolvers"),
    )


ENDPOINTS = (
    endpoint("GET", "/api/whoami-v2", identity.whoami),
    endpoint("POST", "/api/validate-yaml", identity.validate_card),
    endpoint("POST", "/api/repos/create", repositories.create),
    endpoint("DELETE", "/api/repos/delete", repositories.delete),
    endpoint("POST", "/api/repos/move", repositories.move),
    streaming("PUT", "/api/lfs/{ticket}", lfs.put),
    endpoint("POST", "/api/lfs/{ticket}", lfs.verify),
    *xet.ENDPOINTS,
    *_of("dataset"),  # before models, whose addresses have no word of their own in front
    *_of("model"),
)
