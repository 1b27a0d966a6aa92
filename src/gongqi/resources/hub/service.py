# ruff: noqa: F401 - the front of the room: what it imports is what it offers
"""The hub's verbs and reads, and the plain functions that rooms above call. By idea:

`assets` (with the bytes brought to them: `inspection`, `quotas`; where they are found: `addresses`; who may have the
bytes: `access`) → `refs` → `revisions` (of what `contents` lets in; `changes` between two) → `releases` → `lineage` (with
our own answers at the gate), `documents`, `standing`; `elsewhere`, other hubs. `search` finds assets by what `catalogue`
wrote of them; `tally` says how often they were downloaded.
"""

from gongqi.resources.hub.access import (
    AccessOut,
    DecideAccess,
    GateAsset,
    ListAccess,
    RefuseAccess,
    RequestAccess,
    check_may_have,
    gate,
    grant,
    list_access,
    my_request,
    refuse,
    request,
    revoke,
)
from gongqi.resources.hub.addresses import (
    DeleteAsset,
    DeletedOut,
    MoveAsset,
    address_of,
    asset_at,
    delete,
    move,
)
from gongqi.resources.hub.assets import (
    OPENNESS,
    AssetOut,
    BlobOut,
    CreateAsset,
    EditAsset,
    GetAsset,
    Kind,
    ListAssets,
    OpenAsset,
    Visibility,
    asset_actions,
    asset_out,
    assets_of,
    count_assets,
    create,
    create_asset,
    edit,
    findings_of,
    get_asset,
    list_assets,
    open_asset,
    receive_blob,
    require_own,
    set_visibility,
    tell_asset,
    visible_assets,
)
from gongqi.resources.hub.catalogue import labels_of
from gongqi.resources.hub.changes import ChangesOut, CompareRevisions, compare_revisions
from gongqi.resources.hub.contents import FileInput
from gongqi.resources.hub.documents import (
    STATEMENT_MEDIA_TYPE,
    Document,
    DocumentOut,
    attach,
    document_content,
    documents_of,
    is_published,
    undocumented,
)
from gongqi.resources.hub.elsewhere.imports import (
    BeginImport,
    ImportOut,
    ListImports,
    OneImport,
    Origin,
    begin_import,
    cancel_import,
    get_import,
    imports_of,
    latest_origin,
    list_imports,
    origin_of,
    retry_import,
)
from gongqi.resources.hub.elsewhere.mirroring import MirrorSource, mirror_source
from gongqi.resources.hub.elsewhere.sources import (
    AddSource,
    OneSource,
    SourceOut,
    add_source,
    list_sources,
    retire_source,
)
from gongqi.resources.hub.formats.secrets import secrets_in
from gongqi.resources.hub.inspection import Inspected, inspect_blob, inspect_file
from gongqi.resources.hub.lineage import (
    LineageOut,
    Source,
    answer_artefact,
    answer_lineage,
    answer_presigned,
    graph,
    lineage_of_revision,
    sources,
)
from gongqi.resources.hub.quotas import GetQuota, QuotaOut, SetQuota, get_quota, quota_of, room_for, set_quota
from gongqi.resources.hub.refs import (
    CreateRef,
    DeleteRef,
    ListRefs,
    RefOut,
    create_ref,
    delete_ref,
    list_refs,
    refs_at,
    refs_of,
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
    latest_releases,
    list_releases,
    previous_release,
    publish,
    published_releases,
    release_actions,
    release_envelope,
    release_facts,
    releases_of,
    revision_released,
    submit,
    visible_releases,
    withdraw,
    worded,
)
from gongqi.resources.hub.revisions import (
    Change,
    Commit,
    Copy,
    GetRevision,
    ListRevisions,
    Relation,
    RevisionDetail,
    RevisionFacts,
    RevisionOut,
    SourceInput,
    asset_of,
    card_text,
    change,
    claims_of,
    commit,
    commit_revision,
    digests_in_revisions,
    example_file,
    files_to_have,
    find_file,
    get_revision,
    heads_after,
    latest_revision,
    list_revisions,
    parent_of,
    revision_facts,
    revisions_by_card,
    shown_revision,
    visible_revisions,
)
from gongqi.resources.hub.search import Facets, SearchAssets, facets, search, search_assets
from gongqi.resources.hub.signatures import SIGNATURE_MEDIA_TYPE, SIGNATURE_PATH, pem, sign_files
from gongqi.resources.hub.standing import ArchiveAsset, OneAsset, WithdrawAsset, archive, unarchive, withdraw_asset
from gongqi.resources.hub.statements import bundle_of, statement_of
from gongqi.resources.hub.tally import DownloadsOut, GetDownloads, RevisionDownloads, downloads_of, get_downloads
