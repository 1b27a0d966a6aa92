"""Assets, revisions, releases and lineage, through their verbs."""

from __future__ import annotations

import io
import pickle
import threading
import zipfile
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from sqlalchemy import select

from gongqi.books.evidence.models import EntryRow
from gongqi.kernel.access import SYSTEM
from gongqi.kernel.errors import Refused
from gongqi.kernel.events import EventRow
from gongqi.kernel.gates import Answer
from gongqi.kernel.verbs import Caller
from gongqi.resources.hub import service


def refused(code: str):  # type: ignore[no-untyped-def]
    return pytest.raises(Refused, match=rf"^{code}\(")


def evidence_kinds(hub: Any, subject: str) -> list[str]:
    with hub.kernel.db.reading() as session:
        return list(session.scalars(select(EntryRow.kind).where(EntryRow.subject == subject).order_by(EntryRow.id)))


def events(hub: Any, subject: str) -> list[str]:
    with hub.kernel.db.reading() as session:
        return list(session.scalars(select(EventRow.kind).where(EventRow.subject == subject).order_by(EventRow.id)))


# --- assets ----------------------------------------------------------------------------------------------------------


def test_an_asset_is_created_with_evidence_and_an_event(hub):
    asset = hub.asset()
    assert asset.version == 1
    assert evidence_kinds(hub, asset.id) == ["hub.asset-created"]
    assert events(hub, asset.id) == ["hub.asset-created.v1"]


def test_one_organisation_uses_a_slug_once_and_another_may_use_it_too(hub):
    hub.asset()
    with refused("hub.slug-taken"):
        hub.asset()
    hub.asset(hub.laboratory)


def test_a_slug_that_clients_cannot_address_is_refused(hub):
    with refused("hub.slug-invalid"):
        hub.asset(slug="Über")


def test_nobody_creates_an_asset_for_another_organisation(hub):
    given = {"org": hub.hospital, "slug": "x", "kind": "code", "title_zh": "甲", "title_en": "A"}
    with refused("access.forbidden"):
        hub.do(service.create, hub.researcher, **given)
    with refused("access.sign-in-needed"):
        hub.do(service.create, hub.stranger, **given)


@pytest.mark.parametrize(
    ("visibility", "seen_by"),
    [
        ("private", {"donor", "operator", "reviewer"}),
        ("members", {"donor", "operator", "reviewer", "researcher"}),
        ("public", {"donor", "operator", "reviewer", "researcher", "stranger"}),
    ],
)
def test_an_asset_and_its_revisions_are_seen_by_those_to_whom_it_is_open(hub, visibility, seen_by):
    asset = hub.asset(visibility=visibility)
    revision = hub.revision(asset)
    for name in ("donor", "operator", "reviewer", "researcher", "stranger"):
        who = getattr(hub, name)
        listed = [each.id for each in hub.ask(service.list_assets, who).items]
        assert (asset.id in listed) == (name in seen_by), name
        if name in seen_by:
            assert hub.ask(service.get_revision, who, revision=revision.id).number == 1
        else:
            with refused("access.not-found"):
                hub.ask(service.get_asset, who, asset=asset.id)
            with refused("access.not-found"):
                hub.ask(service.get_revision, who, revision=revision.id)


def test_an_edit_needs_the_version_that_was_seen(hub):
    asset = hub.asset()
    edited = hub.do(service.edit, hub.donor, if_match='"v1"', asset=asset.id, title_en="Better")
    assert (edited.title_en, edited.version) == ("Better", 2)
    with refused("kernel.version-changed"):
        hub.do(service.edit, hub.donor, if_match='"v1"', asset=asset.id, title_en="Other")


def test_an_asset_with_a_published_release_is_not_closed_again(hub):
    asset = hub.asset()
    hub.do(service.open_asset, hub.donor, asset=asset.id, visibility="members")
    assert hub.do(service.open_asset, hub.donor, asset=asset.id, visibility="public").visibility == "public"
    hub.published(asset, hub.revision(asset))
    with refused("hub.asset-stays-open"):
        hub.do(service.open_asset, hub.donor, asset=asset.id, visibility="private")
    with refused("access.forbidden"):
        hub.do(service.open_asset, hub.researcher, asset=asset.id, visibility="private")


def test_opening_widens_and_never_narrows(hub):
    asset = hub.asset(visibility="private")
    opened = [
        hub.kernel.transact(lambda ctx, to=to: service.set_visibility(ctx, asset.id, to), reason="test")
        for to in ("members", "public", "members", "public")
    ]
    assert opened == [True, True, False, False]
    assert evidence_kinds(hub, asset.id) == ["hub.asset-created", "hub.asset-opened", "hub.asset-opened"]


def test_assets_are_listed_by_kind_and_organisation_page_by_page(hub):
    for number in range(3):
        hub.asset(slug=f"set-{number}")
    hub.asset(hub.laboratory, kind="model")
    page = hub.ask(service.list_assets, hub.stranger, kind="dataset", limit=2)
    rest = hub.ask(service.list_assets, hub.stranger, kind="dataset", limit=2, cursor=page.next)
    assert [a.slug for a in (*page.items, *rest.items)] == ["set-2", "set-1", "set-0"]
    assert [a.kind for a in hub.ask(service.list_assets, hub.stranger, org=hub.laboratory).items] == ["model"]


# --- bytes -----------------------------------------------------------------------------------------------------------


def zip_of(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("model.bin", pickle.dumps({"weights": [1.0]}), "hub.pickle"),
        ("weights.npz", zip_of("data.pkl", pickle.dumps(object)), "hub.pickle"),
        ("bomb.zip", zip_of("zeros", bytes(64 << 20)), "hub.archive-bomb"),
        ("slip.zip", zip_of("../../etc/passwd", b"x"), "hub.archive-path"),
        ("../secret", b"x", "hub.path-traversal"),
        ("tool", b"\x7fELF" + bytes(100), "hub.program"),
    ],
)
def test_dangerous_bytes_are_refused_and_cannot_be_committed(hub, path, content, code):
    asset = hub.asset()
    with refused(code):
        hub.bring(hub.hospital, path, content)
    from hashlib import sha256

    name = path.rsplit("/", 1)[-1]
    with refused("hub.blob-unknown"):
        hub.revision(asset, [{"path": name, "sha256": sha256(content).hexdigest()}])


def test_bytes_of_another_organisation_cannot_be_committed_by_their_digest(hub):
    theirs = hub.bring(hub.laboratory, "secret.csv", b"a,b\n1,2\n")
    asset = hub.asset()
    with refused("hub.blob-unknown"):
        hub.revision(asset, [theirs])
    hub.bring(hub.hospital, "secret.csv", b"a,b\n1,2\n")
    assert hub.revision(asset, [theirs]).number == 1


def test_bytes_cannot_be_brought_for_an_organisation_one_has_no_right_in(hub):
    with refused("access.forbidden"):
        hub.bring(hub.hospital, "a.csv", b"a\n", actor=hub.researcher)


def test_a_file_is_committed_under_the_name_it_was_inspected_as(hub):
    asset = hub.asset()
    file = hub.bring(hub.hospital, "notes.txt", b"hello\n")
    with refused("hub.blob-renamed"):
        hub.revision(asset, [file | {"path": "model.pkl"}])
    assert hub.revision(asset, [file | {"path": "docs/notes.txt"}]).number == 1


def external_model(location: str) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def test_an_onnx_graph_with_data_outside_the_asset_is_refused_at_upload(hub):
    with refused("hub.onnx-external-outside"):
        hub.bring(hub.hospital, "model.onnx", external_model("../weights.bin"))


def test_an_onnx_graph_brings_the_files_it_points_at(hub):
    asset = hub.asset(kind="model")
    model = hub.bring(hub.hospital, "net/model.onnx", external_model("weights.bin"))
    assert onnx.load_model_from_string(external_model("weights.bin")).graph.initializer[0].external_data
    with refused("hub.onnx-external-missing"):
        hub.revision(asset, [model])
    weights = hub.bring(hub.hospital, "weights.bin", b"\x00\x00\x80?")
    with refused("hub.onnx-external-missing"):
        hub.revision(asset, [model, weights])
    assert hub.revision(asset, [model, weights | {"path": "net/weights.bin"}]).number == 1


# --- revisions -------------------------------------------------------------------------------------------------------


def test_a_revision_keeps_its_files_card_and_sources(hub):
    data = hub.asset()
    first = hub.revision(data, [hub.bring(hub.hospital, "data.csv", b"a\n1\n") | {"component": "datasets"}])
    model = hub.asset(hub.laboratory, slug="net", kind="model")
    made = hub.revision(model, lineage=[{"revision": first.id, "relation": "trained-on"}])
    seen = hub.ask(service.get_revision, hub.stranger, revision=made.id)
    assert seen.lineage == [service.RevisionDetail.model_fields["lineage"].annotation.__args__[0](
        revision=first.id, relation="trained-on"
    )]  # fmt: skip
    assert [(f.path, f.component) for f in hub.ask(service.get_revision, hub.stranger, revision=first.id).files] == [
        ("README.md", None), ("data.csv", "datasets"),
    ]  # fmt: skip
    assert seen.card["license"] == "CC-BY-4.0"
    assert evidence_kinds(hub, made.id) == ["hub.revision-committed"]
    assert events(hub, model.id)[-1] == "hub.revision-committed.v1"


def test_a_revision_builds_on_the_latest_one_and_its_digest_says_so(hub):
    asset = hub.asset()
    first = hub.revision(asset)
    for stale in (0, 7):
        with refused("hub.revision-conflict"):
            hub.revision(asset, parent=stale)
    second = hub.revision(asset, parent=1)
    assert (second.number, second.card_sha256) == (2, first.card_sha256)
    assert second.digest != first.digest
    assert [r.number for r in hub.ask(service.list_revisions, hub.stranger, asset=asset.id).items] == [2, 1]


def test_a_revision_without_a_card_is_kept_but_not_released(hub):
    asset = hub.asset()
    file = hub.bring(hub.hospital, "data.csv", b"a\n")
    made = hub.do(service.commit, hub.donor, asset=asset.id, message="m", files=[file], parent=None)
    with refused("hub.card-missing"):
        hub.do(service.draft, hub.donor, asset=asset.id, revision=made.id, name="1.0.0")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"component": "wings"}, "hub.component-unknown"),
        ({"path": "a/../data.csv"}, "hub.path-traversal"),
        ({"path": "readme.md"}, "hub.path-twin"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_and_nothing_is_committed(hub, change, code):
    asset = hub.asset()
    with refused(code):
        hub.revision(asset, [hub.bring(hub.hospital, "data.csv", b"a\n") | change])
    assert hub.ask(service.list_revisions, hub.donor, asset=asset.id).items == []


def test_a_source_must_be_visible_to_whoever_names_it(hub):
    hidden = hub.revision(hub.asset(visibility="private"))
    model = hub.asset(hub.laboratory, kind="model")
    with refused("access.not-found"):
        hub.revision(model, lineage=[{"revision": hidden.id, "relation": "trained-on"}])


def test_a_source_is_named_once_for_each_relation(hub):
    source = hub.revision(hub.asset())
    model = hub.asset(hub.laboratory, kind="model")
    named = {"revision": source.id, "relation": "trained-on"}
    with refused("hub.lineage-twice"):
        hub.revision(model, lineage=[named, named])
    assert hub.revision(model, lineage=[named, named | {"relation": "evaluated-on"}]).number == 1


def test_nobody_commits_to_the_asset_of_another_organisation(hub):
    asset = hub.asset()
    file = hub.bring(hub.laboratory, "README.md", hub.card)
    with refused("access.forbidden"):
        hub.do(service.commit, hub.researcher, asset=asset.id, message="m", files=[file], parent=None)


# --- releases --------------------------------------------------------------------------------------------------------


def test_a_release_goes_from_draft_through_the_gates_to_publication(hub):
    asset = hub.asset()
    revision = hub.revision(asset)
    release = hub.do(service.draft, hub.donor, asset=asset.id, revision=revision.id, name="1.0.0")
    with refused("access.not-found"):
        hub.ask(service.get_release, hub.stranger, release=release.id)
    with refused("hub.release-not-submitted"):
        hub.do(service.publish, hub.operator, release=release.id)
    hub.do(service.submit, hub.donor, release=release.id)
    published = hub.do(service.publish, hub.operator, release=release.id)
    assert (published.state, published.published_by) == ("published", hub.operator.id)
    detail = hub.ask(service.get_release, hub.stranger, release=release.id)
    assert detail.verdict["allowed"] is True
    assert {answer["source"] for answer in detail.verdict["answers"]} == {"hub.artefact", "hub.lineage", "test.board"}
    assert evidence_kinds(hub, release.id) == ["hub.release-drafted", "hub.release-submitted", "hub.release-published"]
    assert events(hub, release.id) == ["hub.release-submitted.v1", "hub.release-published.v1"]


def test_a_denied_release_is_not_published_and_nothing_changes(hub):
    asset = hub.asset()
    release = hub.submitted(asset, hub.revision(asset))
    hub.answer = [Answer("deny", "board.refused"), Answer("require", "board.label")]
    with refused("hub.gates-denied") as caught:
        hub.do(service.publish, hub.operator, release=release.id)
    assert caught.value.params["reasons"] == "test.board: board.refused"
    after = hub.ask(service.get_release, hub.operator, release=release.id)
    assert (after.state, after.version, after.verdict) == ("submitted", release.version, None)
    assert evidence_kinds(hub, release.id) == ["hub.release-drafted", "hub.release-submitted"]


def test_a_check_shows_each_reason_in_both_languages_and_changes_nothing(hub):
    asset = hub.asset(kind="model")
    release = hub.submitted(asset, hub.revision(asset))
    said = hub.ask(service.check, hub.donor, release=release.id)
    answers = {answer.source: answer for answer in said.answers}
    assert not said.allowed
    assert answers["hub.lineage"].decision == "deny"
    assert answers["hub.lineage"].en == "The model names no source."
    assert answers["hub.lineage"].zh == "模型没有写明任何来源。"
    assert answers["hub.lineage"].cites[0]["authority"] == "policy"


def test_a_file_nobody_recognises_leaves_a_duty(hub):
    asset = hub.asset()
    release = hub.submitted(asset, hub.revision(asset, [hub.bring(hub.hospital, "blob.bin", b"\x01\x02\xff\x00" * 9)]))
    said = hub.ask(service.check, hub.donor, release=release.id)
    duty = next(answer for answer in said.answers if answer.source == "hub.artefact")
    assert (duty.decision, duty.params["path"]) == ("require", "blob.bin")


def test_a_release_whose_bytes_are_lost_is_denied(hub):
    asset = hub.asset()
    file = hub.bring(hub.hospital, "data.csv", b"a\n1\n")
    release = hub.submitted(asset, hub.revision(asset, [file]))
    hub.kernel.blobs.path(file["sha256"]).unlink()
    with refused("hub.gates-denied") as caught:
        hub.do(service.publish, hub.operator, release=release.id)
    assert caught.value.params["reasons"] == "hub.artefact: hub.gate.artefact-lost"


def test_a_source_less_open_than_what_rests_on_it_leaves_a_duty(hub):
    data = hub.asset(visibility="members")
    source = hub.revision(data)
    model = hub.asset(hub.laboratory, kind="model")
    revision = hub.revision(model, lineage=[{"revision": source.id, "relation": "trained-on"}])
    release = hub.submitted(model, revision)
    answers = hub.ask(service.check, hub.researcher, release=release.id).answers
    assert [a.decision for a in answers if a.source == "hub.lineage"] == ["allow", "require"]


def test_of_two_operators_publishing_at_once_one_does_and_the_other_is_told(hub):
    asset = hub.asset()
    release = hub.submitted(asset, hub.revision(asset))
    start, outcomes = threading.Barrier(2), []

    def publish() -> None:
        start.wait()
        try:
            outcomes.append(hub.do(service.publish, hub.operator, release=release.id).state)
        except Refused as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["hub.release-already-published", "published"]
    assert evidence_kinds(hub, release.id).count("hub.release-published") == 1
    assert events(hub, release.id).count("hub.release-published.v1") == 1


def test_a_release_name_is_used_once_and_is_a_version_number(hub):
    asset = hub.asset()
    revision = hub.revision(asset)
    hub.submitted(asset, revision)
    with refused("hub.release-name-taken"):
        hub.submitted(asset, revision)
    with pytest.raises(ValueError, match="name"):
        hub.submitted(asset, revision, name="final")


def test_a_release_is_of_the_assets_own_revision(hub):
    one, other = hub.asset(), hub.asset(slug="other")
    revision = hub.revision(other)
    with refused("hub.revision-of-another-asset"):
        hub.do(service.draft, hub.donor, asset=one.id, revision=revision.id, name="1.0.0")


def test_a_release_is_submitted_once(hub):
    asset = hub.asset()
    release = hub.submitted(asset, hub.revision(asset))
    with refused("hub.release-not-draft"):
        hub.do(service.submit, hub.donor, release=release.id)


def test_a_withdrawn_release_stays_readable_and_is_not_published_again(hub):
    asset = hub.asset()
    release = hub.published(asset, hub.revision(asset))
    hub.do(service.withdraw, hub.donor, release=release.id, reason="a record was wrong")
    seen = hub.ask(service.get_release, hub.stranger, release=release.id)
    assert (seen.state, seen.withdrawn_reason) == ("withdrawn", "a record was wrong")
    assert events(hub, release.id)[-1] == "hub.release-withdrawn.v1"
    with refused("hub.release-already-published"):
        hub.do(service.publish, hub.operator, release=release.id)
    with refused("hub.release-not-open"):
        hub.do(service.withdraw, hub.donor, release=release.id, reason="again")


def test_the_reason_of_a_withdrawal_stays_out_of_the_log(hub):
    asset = hub.asset()
    release = hub.published(asset, hub.revision(asset))
    hub.do(service.withdraw, hub.donor, release=release.id, reason="names a patient")
    with hub.kernel.db.reading() as session:
        leaf = session.scalar(select(EntryRow.leaf).where(EntryRow.kind == "hub.release-withdrawn"))
    assert b"patient" not in leaf and b"private_digest" in leaf


def test_another_organisation_neither_submits_nor_publishes_nor_withdraws(hub):
    asset = hub.asset()
    release = hub.submitted(asset, hub.revision(asset))
    for verb, more in ((service.submit, {}), (service.publish, {}), (service.withdraw, {"reason": "r"})):
        with refused("access.forbidden"):
            hub.do(verb, hub.researcher, release=release.id, **more)


def test_the_previous_release_is_the_one_published_before(hub):
    asset = hub.asset()
    first = hub.published(asset, hub.revision(asset))
    waiting = hub.submitted(asset, hub.revision(asset, parent=1), "1.1.0")
    look = hub.kernel.look
    assert look(lambda ctx: service.previous_release(ctx, waiting.id)).release == first.id
    second = hub.do(service.publish, hub.operator, release=waiting.id)
    assert look(lambda ctx: service.previous_release(ctx, second.id)).release == first.id
    assert look(lambda ctx: service.previous_release(ctx, first.id)) is None


# --- lineage ---------------------------------------------------------------------------------------------------------


def chain(hub: Any) -> tuple[Any, Any, Any]:
    data = hub.revision(hub.asset())
    base = hub.asset(hub.laboratory, slug="base", kind="model")
    trained = hub.revision(base, lineage=[{"revision": data.id, "relation": "trained-on"}])
    tuned_asset = hub.asset(hub.laboratory, slug="tuned", kind="model")
    tuned = hub.revision(
        tuned_asset,
        lineage=[
            {"revision": trained.id, "relation": "fine-tuned-from"},
            {"revision": data.id, "relation": "evaluated-on"},
        ],
    )
    return data, trained, tuned


def test_sources_are_found_through_all_generations_each_once(hub):
    data, trained, tuned = chain(hub)
    found = hub.kernel.look(lambda ctx: service.sources(ctx, tuned.id))
    assert [(each.revision, each.relation, each.org) for each in found] == [
        (data.id, "trained-on", hub.hospital),
        (trained.id, "fine-tuned-from", hub.laboratory),
    ]


def test_what_an_ancestor_learned_from_does_not_pass_for_a_mere_yardstick(hub):
    data, trained, tuned = chain(hub)
    found = {each.revision: each for each in hub.kernel.look(lambda ctx: service.sources(ctx, tuned.id))}
    assert found[data.id].is_learned_from and found[trained.id].is_learned_from


def test_what_a_yardstick_was_made_from_is_not_what_a_model_learned_from(hub):
    asset = hub.asset()
    first = hub.revision(asset)
    second = hub.revision(asset, lineage=[{"revision": first.id, "relation": "derived-from"}])
    model = hub.revision(
        hub.asset(hub.laboratory, kind="model"), lineage=[{"revision": second.id, "relation": "evaluated-on"}]
    )
    found = hub.kernel.look(lambda ctx: service.sources(ctx, model.id))
    assert {each.revision: each.is_learned_from for each in found} == {first.id: False, second.id: False}


def test_a_walk_ends_where_too_many_have_derived_from_one_source(hub, monkeypatch):
    monkeypatch.setattr("gongqi.resources.hub.lineage.MAX_EDGES", 2)
    data = hub.revision(hub.asset())
    for number in range(3):
        model = hub.asset(hub.laboratory, slug=f"derived-{number}", kind="model")
        made = hub.revision(model, lineage=[{"revision": data.id, "relation": "trained-on"}])
    graph = hub.kernel.look(lambda ctx: service.lineage_of_revision(ctx, data.id), Caller(SYSTEM))
    assert graph.truncated and len(graph.nodes) == 1
    assert len(hub.kernel.look(lambda ctx: service.sources(ctx, made.id))) == 1  # nobody else's sources are lost by it


def test_the_lineage_of_a_release_reaches_up_and_down(hub):
    data, trained, tuned = chain(hub)
    graph = hub.kernel.look(lambda ctx: service.lineage_of_revision(ctx, trained.id), Caller(SYSTEM))
    assert {node.revision for node in graph.nodes} == {data.id, trained.id, tuned.id}
    assert {(edge.derived, edge.source) for edge in graph.edges} == {(trained.id, data.id), (tuned.id, trained.id)}
    assert not graph.truncated


def test_a_source_one_may_not_see_is_a_node_without_a_name(hub):
    data = hub.asset(visibility="members")
    source = hub.revision(data)
    model = hub.asset(hub.laboratory, kind="model")
    revision = hub.revision(model, lineage=[{"revision": source.id, "relation": "trained-on"}])
    release = hub.published(model, revision)
    nodes = {node.revision: node for node in hub.ask(service.graph, hub.stranger, release=release.id).nodes}
    assert nodes[source.id].hidden and nodes[source.id].asset is None
    assert nodes[revision.id].release == release.id
