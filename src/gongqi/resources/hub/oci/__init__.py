"""The door for clients of OCI registries: `oras`, `skopeo`, `docker`, model tools that speak CNCF ModelPack.

A repository `organisation/name` is an asset; a tag is a branch, a tag or a release, and `latest` the head of `main`; the
blobs are the hub's own files, by the same SHA-256. Any revision is pulled as a ModelPack artefact whose manifest is made
from it; what is pushed becomes a revision, by the same verbs as at the other doors. docs/decisions/0014 says what is
refused and why, and how this protocol shares `/v2/` with the Open Inference Protocol.

`manifests` (pure: revision ↔ manifest) → `shelf` (what was said once is said again, byte for byte) → `door` (requests,
errors, tokens) → `pulls`, `uploads`, `pushes` → `api` (the routes).

Source: OCI Distribution Specification 1.1, OCI Image Manifest 1.1, CNCF Model Format Specification 1.
"""
