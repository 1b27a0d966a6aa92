"""The routes of this door.

The Open Inference Protocol has `/v2`, `/v2/health/…` and `/v2/models/{name}/…` on the same port, and neither takes an
address from the other: `/v2` is its, `/v2/` is ours, and below a repository's two names only our own words follow, of
which it has none. So an organisation may even be called `models`.
"""

from __future__ import annotations

from gongqi.resources.hub.oci import door, pulls, pushes, uploads
from gongqi.resources.hub.oci.door import endpoint, streaming

REPOSITORY = "/v2/{org}/{slug}"
UPLOAD = f"{REPOSITORY}/blobs/uploads/{{ticket}}"

ENDPOINTS = (
    endpoint("GET", "/v2/", door.ping),
    endpoint("GET", "/v2/token", door.token),
    endpoint("GET", f"{REPOSITORY}/manifests/{{reference}}", pulls.manifest),
    streaming("PUT", f"{REPOSITORY}/manifests/{{reference}}", pushes.push),
    endpoint("DELETE", f"{REPOSITORY}/manifests/{{reference}}", pushes.delete),
    streaming("POST", f"{REPOSITORY}/blobs/uploads/", uploads.begin),
    streaming("PATCH", UPLOAD, uploads.append),
    streaming("PUT", UPLOAD, uploads.finish),
    streaming("GET", UPLOAD, uploads.status),
    streaming("DELETE", UPLOAD, uploads.cancel),
    endpoint("GET", f"{REPOSITORY}/blobs/{{digest}}", pulls.blob),
    endpoint("GET", f"{REPOSITORY}/tags/list", pulls.tags),
    endpoint("GET", f"{REPOSITORY}/referrers/{{digest}}", pulls.referrers),
)
