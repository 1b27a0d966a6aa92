"""The hub's registration."""

from pathlib import Path

from gongqi.kernel.gates import Answerer
from gongqi.kernel.room import Figure, Room
from gongqi.resources.hub import service
from gongqi.resources.hub.api import ENDPOINTS
from gongqi.resources.hub.flows import CHORES, FLOWS, SCHEDULES
from gongqi.resources.hub.gates import ASSET_OPEN, RELEASE_PUBLISH
from gongqi.resources.hub.huggingface.api import ENDPOINTS as HUGGING_FACE
from gongqi.resources.hub.oci.api import ENDPOINTS as OCI
from gongqi.resources.hub.pages import PANELS, VIEWS
from gongqi.resources.hub.policy import POLICIES
from gongqi.resources.hub.tus import ENDPOINTS as TUS

ROOM = Room(
    name="hub",
    folder=Path(__file__).parent,
    verbs=(
        service.create,
        service.edit,
        service.open_asset,
        service.gate,
        service.move,
        service.delete,
        service.archive,
        service.unarchive,
        service.withdraw_asset,
        service.request,
        service.grant,
        service.refuse,
        service.revoke,
        service.commit,
        service.change,
        service.create_ref,
        service.delete_ref,
        service.draft,
        service.submit,
        service.publish,
        service.withdraw,
        service.set_quota,
        service.add_source,
        service.mirror_source,
        service.retire_source,
        service.begin_import,
        service.cancel_import,
        service.retry_import,
    ),
    reads=(
        service.list_assets,
        service.get_asset,
        service.list_access,
        service.search_assets,
        service.list_revisions,
        service.get_revision,
        service.compare_revisions,
        service.list_refs,
        service.list_releases,
        service.get_release,
        service.check,
        service.graph,
        service.get_quota,
        service.get_downloads,
        service.list_sources,
        service.list_imports,
        service.get_import,
    ),
    policies=POLICIES,
    gates=(RELEASE_PUBLISH, ASSET_OPEN),
    answerers=(
        Answerer(RELEASE_PUBLISH, "hub.artefact", service.answer_artefact),
        Answerer(RELEASE_PUBLISH, "hub.lineage", service.answer_lineage),
        Answerer(RELEASE_PUBLISH, "hub.presigned", service.answer_presigned),
    ),
    flows=FLOWS,
    schedules=SCHEDULES,
    chores=CHORES,
    views=VIEWS,
    panels=PANELS,
    endpoints=(*ENDPOINTS, *TUS, *HUGGING_FACE, *OCI),
    figures=(
        Figure("hub.figure.assets", "/hub", service.count_assets),
        Figure("hub.figure.releases", "/hub", service.published_releases),
    ),
)
