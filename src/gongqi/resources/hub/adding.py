"""The page by which files are added to an asset from a browser, and what becomes of them: one revision.

With scripts the files have come before, in parts (tus.py), and the form only names them; without, the form brings small
files itself. Either way the verbs are those of every other door.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from gongqi.kernel.room import Kernel, Sent, View
from gongqi.kernel.verbs import Caller, Read, execute
from gongqi.resources.hub import browsing, service
from gongqi.resources.hub.asset_pages import frame
from gongqi.resources.hub.assets import add_blob
from gongqi.resources.hub.contents import FileInput
from gongqi.resources.hub.models import Asset
from gongqi.resources.hub.rules import COMPONENT_KINDS, MAIN, check_path, likely_component, likely_components
from gongqi.resources.hub.uploads import look_and_place

KNOWN_FILES = 1_000  # of the revision that is added to, whose component and licence are kept for files of their name
SHOWN_BRANCHES = 100
_FILES = TypeAdapter(list[FileInput])


def load_add(ctx: Read, key: str) -> dict[str, Any]:
    """For whoever may commit to the asset. Raises Refused access.*."""
    asset = ctx.find(Asset, key, to="hub:revision:change")
    values = frame(ctx, asset.id, "files")
    commit = browsing.commit_at(ctx, values["asset"])
    known = browsing.files_under(ctx, commit, "", limit=KNOWN_FILES)
    return values | {
        "components": [(kind, ctx.text(f"hub.component.{kind}")) for kind in COMPONENT_KINDS],
        "likely": likely_components(asset.kind),
        "known": {file.path: [file.component or "", file.license or ""] for file in known},
        "branches": [ref.name for ref in service.refs_of(ctx, asset.id) if ref.kind == "branch"][:SHOWN_BRANCHES],
    }


def take_files(kernel: Kernel, caller: Caller, sent: Sent, key: str) -> str:
    """Commit what was brought as one revision; the address of its page.

    Raises Refused: access.*, hub.nothing-changed, and whatever a file or the commit is refused for.
    """
    asset = kernel.look(lambda ctx: ctx.find(Asset, key, to="hub:revision:change"), caller)
    told = sent.fields
    if told.get("listed"):
        files = _FILES.validate_json(told["listed"])
    else:
        files = [_brought(kernel, caller, asset, told, file.name, file.content) for file in sent.files]
    change = service.Change(
        asset=asset.id,
        branch=told.get("branch") or MAIN,
        message=told.get("message", "").strip(),
        files=files,
        parent=None,
    )
    return f"/hub/revision/{execute(kernel, service.change, caller, change).id}"


def _brought(kernel: Kernel, caller: Caller, asset: Asset, told: Any, name: str, content: bytes) -> FileInput:
    """One file of the form itself, inspected and noted as the organisation's own."""
    folder = told.get("folder", "").strip("/")
    path = check_path(f"{folder}/{name}" if folder else name)
    given = look_and_place(kernel, org=asset.org, path=path, content=content)
    alone = Caller(caller.actor, caller.language, caller.request_id)  # the form's own key is for the commit
    execute(kernel, add_blob, alone, given)
    component = told.get("component") or likely_component(path, likely_components(asset.kind))
    return FileInput(path=path, sha256=given.sha256, component=component, license=told.get("license") or None)


VIEWS = (View("/hub/asset/{key}/add", "hub_add.html", load_add, take=take_files),)
