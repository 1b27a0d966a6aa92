"""Branches, tags and changes: an asset's states have names, and the next state is what changes of the last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.kernel.errors import Refused
from gongqi.resources.hub import refs as naming
from gongqi.resources.hub import rules, service
from tests.resources.hub.test_service import refused


def paths(hub, revision: str) -> dict[str, str]:
    return {file.path: file.sha256 for file in hub.ask(service.get_revision, hub.donor, revision=revision).files}


def names(hub, asset) -> dict[str, str]:
    return {ref.name: ref.revision for ref in hub.ask(service.list_refs, hub.donor, asset=asset.id).items}


def change(hub, asset, **given):
    return hub.do(service.change, hub.donor, **({"asset": asset.id, "message": "m"} | given))


def test_main_moves_with_each_commit_and_a_tag_stays(hub):
    asset = hub.asset()
    first = hub.revision(asset)
    hub.do(service.create_ref, hub.donor, asset=asset.id, kind="tag", name="v1")
    second = hub.revision(asset)
    assert names(hub, asset) == {"main": second.id, "v1": first.id}


def test_a_branch_goes_its_own_way_from_where_it_was_made(hub):
    asset = hub.asset()
    first = hub.revision(asset)
    hub.do(service.create_ref, hub.donor, asset=asset.id, kind="branch", name="dev", at=first.id)
    second = change(hub, asset, branch="dev", files=[hub.bring(hub.hospital, "data.csv", b"a\n")])
    assert names(hub, asset) == {"main": first.id, "dev": second.id}
    assert paths(hub, second.id).keys() == {"README.md", "data.csv"}
    with refused("hub.ref-unknown"):
        change(hub, asset, branch="nowhere", files=[])


def test_a_revision_is_found_by_branch_tag_id_and_the_name_git_gives_it(hub):
    asset = hub.asset()
    first, second = hub.revision(asset), hub.revision(asset)
    hub.do(service.create_ref, hub.donor, asset=asset.id, kind="tag", name="v1", at=first.digest[:40])
    for name, wanted in (("main", second), ("v1", first), (first.id, first), (second.digest[:40], second)):
        assert hub.kernel.look(lambda ctx, name=name: naming.resolve(ctx, asset.id, name).id) == wanted.id
    other = hub.revision(hub.asset(slug="other"))
    for name in (other.id, "v2", "0" * 40):
        with refused("hub.ref-unknown"):
            hub.do(service.create_ref, hub.donor, asset=asset.id, kind="tag", name="x", at=name)


def test_a_name_is_taken_once_and_main_stays(hub):
    asset = hub.asset()
    hub.revision(asset)
    hub.do(service.create_ref, hub.donor, asset=asset.id, kind="tag", name="v1")
    with refused("hub.ref-taken"):
        hub.do(service.create_ref, hub.donor, asset=asset.id, kind="tag", name="v1")
    with refused("hub.main-stays"):
        hub.do(service.delete_ref, hub.donor, asset=asset.id, kind="branch", name="main")
    hub.do(service.delete_ref, hub.donor, asset=asset.id, kind="tag", name="v1")
    with refused("hub.ref-unknown"):
        hub.do(service.delete_ref, hub.donor, asset=asset.id, kind="tag", name="v1")


def test_an_asset_has_a_bounded_number_of_names(hub, monkeypatch):
    monkeypatch.setattr(naming, "MAX_REFS", 2)
    asset = hub.asset()
    hub.revision(asset)
    hub.do(service.create_ref, hub.donor, asset=asset.id, kind="tag", name="v1")
    with refused("hub.too-many-refs"):
        hub.do(service.create_ref, hub.donor, asset=asset.id, kind="tag", name="v2")


def test_what_a_change_does_not_name_stays_as_it_is(hub):
    asset = hub.asset()
    files = [hub.bring(hub.hospital, path, path.encode()) for path in ("a.txt", "b/c.txt", "b/d.txt")]
    first = hub.revision(asset, files)
    replaced = hub.bring(hub.hospital, "a.txt", b"new")
    second = change(hub, asset, files=[replaced], removed=["b/"], parent=first.digest[:40])
    assert paths(hub, second.id) == {"README.md": paths(hub, first.id)["README.md"], "a.txt": replaced["sha256"]}
    assert (second.number, second.digest == first.digest) == (2, False)


def test_a_change_of_nothing_is_no_revision(hub):
    asset = hub.asset()
    file = hub.bring(hub.hospital, "a.txt", b"a")
    first = hub.revision(asset, [file])
    with pytest.raises(Refused) as told:
        change(hub, asset, files=[file])
    assert (told.value.code, told.value.params["revision"]) == ("hub.nothing-changed", first.digest[:40])


def test_of_two_changes_to_one_parent_one_wins_and_the_other_is_told_where_the_branch_is(hub):
    asset = hub.asset()
    first = hub.revision(asset)
    won = change(hub, asset, files=[hub.bring(hub.hospital, "a.txt", b"a")], parent=first.id)
    with pytest.raises(Refused) as lost:
        change(hub, asset, files=[hub.bring(hub.hospital, "b.txt", b"b")], parent=first.id)
    assert (lost.value.code, lost.value.params["current"]) == ("hub.revision-conflict", won.digest[:40])


def test_a_copy_keeps_its_bytes_and_needs_a_name_they_were_inspected_under(hub):
    asset = hub.asset()
    first = hub.revision(asset, [hub.bring(hub.hospital, "a.txt", b"a")])
    copies = [{"source": "a.txt", "at": first.id, "path": "kept/a.txt"}]
    moved = change(hub, asset, copies=copies, removed=["a.txt"], parent=first.id)
    assert paths(hub, moved.id)["kept/a.txt"] == paths(hub, first.id)["a.txt"]
    assert "a.txt" not in paths(hub, moved.id)
    with refused("hub.blob-renamed"):
        change(hub, asset, copies=[{"source": "kept/a.txt", "path": "a.pkl"}])
    with refused("hub.file-absent"):
        change(hub, asset, copies=[{"source": "gone.txt", "path": "b.txt"}])


def test_what_is_not_there_cannot_be_removed(hub):
    asset = hub.asset()
    hub.revision(asset)
    for name in ("a.txt", "b/"):
        with refused("hub.file-absent"):
            change(hub, asset, removed=[name])


def test_lineage_is_carried_on_by_a_change(hub):
    source = hub.revision(hub.asset())
    asset = hub.asset(slug="model", kind="model")
    hub.revision(asset, lineage=[{"revision": source.id, "relation": "trained-on"}])
    second = change(hub, asset, files=[hub.bring(hub.hospital, "a.txt", b"a")])
    [edge] = hub.ask(service.get_revision, hub.donor, revision=second.id).lineage
    assert (edge.revision, edge.relation) == (source.id, "trained-on")


def test_nobody_changes_or_names_the_asset_of_another_organisation(hub):
    asset = hub.asset()
    hub.revision(asset)
    with refused("access.forbidden"):
        hub.do(service.change, hub.researcher, asset=asset.id, message="m")
    with refused("access.forbidden"):
        hub.do(service.create_ref, hub.researcher, asset=asset.id, kind="tag", name="v1")
    with refused("access.forbidden"):
        hub.do(service.delete_ref, hub.researcher, asset=asset.id, kind="branch", name="main")


FILES = st.dictionaries(
    st.sampled_from(["a", "a.b", "d/a", "d/b", "d/e/f", "da"]), st.integers(0, 9).map(lambda n: f"{n:064x}"), max_size=6
)


@given(FILES, st.sampled_from(["a", "d/", "d/e/", "da", "x", "x/"]))
def test_removing_takes_exactly_what_is_named(files, name):
    entries = {path: rules.FileEntry(path, 1, sha256) for path, sha256 in files.items()}
    gone = {path for path in files if path == name or (name.endswith("/") and path.startswith(name))}
    if gone:
        assert rules.without(entries, [name]) == {path: e for path, e in entries.items() if path not in gone}
    else:
        with pytest.raises(Refused):
            rules.without(entries, [name])
