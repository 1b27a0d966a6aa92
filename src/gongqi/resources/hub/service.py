"""The hub's verbs and reads, and the plain functions that rooms above call. By idea:

`assets` (with the bytes brought to them) → `revisions` → `releases` → `lineage` (with our own answers at the gate).
"""

from gongqi.resources.hub.assets import (
    AssetOut,
    BlobOut,
    CreateAsset,
    EditAsset,
    GetAsset,
    Inspected,
    Kind,
    ListAssets,
    Visibility,
    asset_out,
    create,
    create_asset,
    edit,
    get_asset,
    inspect_blob,
    list_assets,
    receive_blob,
    set_visibility,
)
from gongqi.resources.hub.lineage import (
    LineageOut,
    Source,
    answer_artefact,
    answer_lineage,
    graph,
    lineage_of_revision,
    sources,
)
from gongqi.resources.hub.releases import (
    CheckOut,
    Draft,
    ListReleases,
    OneRelease,
    ReleaseDetail,
    ReleaseFacts,
    ReleaseOut,
    Withdraw,
    ask_gates,
    check,
    draft,
    get_release,
    list_releases,
    previous_release,
    publish,
    published_releases,
    release_envelope,
    release_facts,
    releases_of,
    submit,
    withdraw,
    worded,
)
from gongqi.resources.hub.revisions import (
    Commit,
    FileInput,
    GetRevision,
    ListRevisions,
    Relation,
    RevisionDetail,
    RevisionFacts,
    RevisionOut,
    SourceInput,
    commit,
    commit_revision,
    find_file,
    get_revision,
    latest_revision,
    list_revisions,
    revision_facts,
)
from gongqi.resources.hub.statements import bundle_of

__all__ = [
    "AssetOut", "BlobOut", "CheckOut", "Commit", "CreateAsset", "Draft", "EditAsset", "FileInput", "GetAsset",
    "GetRevision", "Inspected", "Kind", "LineageOut", "ListAssets", "ListReleases", "ListRevisions", "OneRelease",
    "Relation", "ReleaseDetail", "ReleaseFacts", "ReleaseOut", "RevisionDetail", "RevisionFacts", "RevisionOut",
    "Source", "SourceInput", "Visibility", "Withdraw", "answer_artefact", "answer_lineage", "ask_gates",
    "asset_out", "bundle_of", "check", "commit", "commit_revision", "create", "create_asset", "draft", "edit",
    "find_file", "get_asset", "get_release", "get_revision", "graph", "inspect_blob", "latest_revision",
    "lineage_of_revision", "list_assets", "list_releases", "list_revisions", "previous_release", "publish",
    "published_releases", "receive_blob", "release_envelope", "release_facts", "releases_of", "revision_facts",
    "set_visibility", "sources", "submit", "withdraw", "worded",
]  # fmt: skip
