"""One verb, one transaction, one evidence entry; and nothing without authorisation."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import delete, func, select

from gongqi.kernel.access import ANONYMOUS, FOUNDATION, SYSTEM, Actor
from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.events import EventRow
from gongqi.kernel.verbs import MAX_KEY, Caller, IdempotencyRow, etag_of, execute, query


@pytest.fixture
def alice(village):
    return village.person("alice", "org_a")


@pytest.fixture
def note(kernel, village, alice):
    return execute(kernel, village.create, Caller(alice), village.Create(org="org_a", text="first"))


def rows(kernel, model) -> int:
    return kernel.look(lambda ctx: ctx.session.scalar(select(func.count()).select_from(model)))


def stored(kernel, village, key):
    return kernel.look(lambda ctx: ctx.session.get(village.Note, key))


def refusal(code: str, act, *args):
    with pytest.raises((Refused, Broken)) as caught:
        act(*args)
    assert caught.value.code == code
    return caught.value


def test_a_verb_leaves_its_row_its_evidence_and_its_event_together(kernel, village, alice, note):
    execute(kernel, village.edit, Caller(alice), village.Edit(note=note.id, text="second"))
    assert stored(kernel, village, note.id).text == "second"
    with kernel.db.reading() as session:
        entries = session.scalars(select(village.Witness).order_by(village.Witness.id)).all()
        events = session.scalars(select(EventRow)).all()
    assert sorted(entry.kind for entry in entries) == ["village.note-created", "village.note-edited"]
    assert {entry.actor for entry in entries} == {alice.id}
    assert [(event.kind, event.subject, event.payload["text"]) for event in events] == [
        ("village.note-edited.v1", note.id, "second")
    ]


@pytest.mark.parametrize(
    ("verb", "code"), [("silent", "kernel.verb-without-evidence"), ("careless", "kernel.verb-unauthorised")]
)
def test_a_verb_that_forgets_its_evidence_or_its_permission_changes_nothing(kernel, village, alice, note, verb, code):
    before = rows(kernel, village.Witness)
    refusal(code, execute, kernel, getattr(village, verb), Caller(alice), village.Edit(note=note.id, text="changed"))
    assert stored(kernel, village, note.id).text == "first"
    assert rows(kernel, village.Witness) == before


def test_a_stranger_is_asked_to_sign_in_and_a_member_without_the_right_is_forbidden(kernel, village, note):
    edit = village.Edit(note=note.id, text="x")
    refusal("access.sign-in-needed", execute, kernel, village.edit, Caller(ANONYMOUS), edit)
    idle = Actor("person_idle", "person", "idle", grants={"org_a": frozenset({"village:note:read"})})
    refusal("access.forbidden", execute, kernel, village.edit, Caller(idle), edit)


def test_a_row_of_another_organisation_does_not_exist_for_me(kernel, village, note):
    bob = village.person("bob", "org_b")
    refusal("access.not-found", execute, kernel, village.edit, Caller(bob), village.Edit(note=note.id, text="x"))
    refusal("access.not-found", query, kernel, village.get_note, Caller(bob), village.Key(note=note.id))
    assert query(kernel, village.list_notes, Caller(bob), village.List()).items == []


def test_a_row_i_may_see_but_not_touch_says_forbidden_rather_than_missing(kernel, village, note):
    kernel.transact(lambda ctx: setattr(ctx.session.get(village.Note, note.id), "public", True), reason="test")
    bob = village.person("bob", "org_b")
    assert query(kernel, village.get_note, Caller(bob), village.Key(note=note.id)).id == note.id
    refusal("access.forbidden", execute, kernel, village.edit, Caller(bob), village.Edit(note=note.id, text="x"))
    assert query(kernel, village.get_note, Caller(ANONYMOUS), village.Key(note=note.id)).id == note.id


def test_creating_in_another_organisation_is_forbidden(kernel, village):
    bob = village.person("bob", "org_b")
    refusal("access.forbidden", execute, kernel, village.create, Caller(bob), village.Create(org="org_a"))


def test_a_permission_that_no_policy_names_is_a_bug_and_not_a_pass(kernel, village, alice):
    def look(ctx):
        return ctx.visible(village.Note, to="village:note:invented")

    refusal("kernel.policy-missing", kernel.look, look, Caller(alice))
    refusal("kernel.policy-missing", kernel.look, lambda ctx: ctx.visible(EventRow, to="x:y:z"), Caller(alice))


def test_may_tells_whether_to_show_a_button(kernel, village, note):
    alice, bob = village.person("alice", "org_a"), village.person("bob", "org_b")

    def may(actor):
        return kernel.look(
            lambda ctx: ctx.may("village:note:edit", ctx.session.get(village.Note, note.id)), Caller(actor)
        )

    assert may(alice)
    assert not may(bob)
    assert not may(ANONYMOUS)
    assert kernel.look(lambda ctx: ctx.may("village:note:edit"), Caller(bob))  # somewhere, if not here


def test_evidence_outside_a_verb_must_name_its_kind(kernel, village):
    refusal("kernel.evidence-kind-missing", lambda: kernel.transact(lambda ctx: ctx.record("x"), reason="test"))
    kernel.transact(lambda ctx: ctx.record("x", kind="village.swept"), reason="test")
    assert rows(kernel, village.Witness) == 1


def test_a_part_that_nobody_provided_is_named(kernel):
    kernel.parts[int] = 7
    assert kernel.part(int) == 7
    assert refusal("kernel.part-missing", kernel.part, str).params == {"part": "str"}


# Idempotency


def test_the_same_key_does_the_work_once_and_gives_the_same_answer(kernel, village, alice):
    caller = Caller(alice, idempotency_key="k1")
    first = execute(kernel, village.create, caller, village.Create(org="org_a", text="once"))
    again = execute(kernel, village.create, caller, village.Create(org="org_a", text="once"))
    assert again == first
    assert rows(kernel, village.Note) == rows(kernel, village.Witness) == 1


def test_the_same_key_with_another_request_is_refused(kernel, village, alice):
    caller = Caller(alice, idempotency_key="k1")
    made = execute(kernel, village.create, caller, village.Create(org="org_a", text="once"))
    other = village.Create(org="org_a", text="twice")
    refusal("kernel.idempotency-key-reused", execute, kernel, village.create, caller, other)
    refusal("kernel.idempotency-key-reused", execute, kernel, village.count, caller, village.Key(note=made.id))
    assert rows(kernel, village.Note) == 1


def test_a_key_belongs_to_the_actor_who_used_it(kernel, village, alice):
    input = village.Create(org="org_a", text="once")
    carol = village.person("carol", "org_a")
    first = execute(kernel, village.create, Caller(alice, idempotency_key="k1"), input)
    assert execute(kernel, village.create, Caller(carol, idempotency_key="k1"), input).id != first.id


def test_strangers_who_happen_upon_the_same_key_do_not_see_each_others_answers(kernel, village):
    caller = Caller(ANONYMOUS, idempotency_key="k1")
    mine = execute(kernel, village.knock, caller, village.Create(org="", text="mine"))
    yours = execute(kernel, village.knock, caller, village.Create(org="", text="yours"))
    assert yours != mine
    assert execute(kernel, village.knock, caller, village.Create(org="", text="mine")) == mine


def test_a_failed_request_does_not_use_up_its_key(kernel, village, alice, note):
    caller = Caller(alice, idempotency_key="k1")
    with pytest.raises(Broken):
        execute(kernel, village.silent, caller, village.Edit(note=note.id, text="x"))
    assert rows(kernel, IdempotencyRow) == 0
    assert execute(kernel, village.edit, caller, village.Edit(note=note.id, text="x")).text == "x"


def test_a_secret_is_not_replayed_and_not_stored(kernel, village, alice, note):
    caller = Caller(alice, idempotency_key="k1")
    secret = execute(kernel, village.reveal, caller, village.Key(note=note.id))
    refusal("kernel.secret-shown-once", execute, kernel, village.reveal, caller, village.Key(note=note.id))
    with kernel.db.reading() as session:
        assert secret.token not in str(session.scalar(select(IdempotencyRow)).__dict__)


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY + 1), "a\0b", "a\nb"])
def test_a_key_that_is_empty_too_long_or_unprintable_is_refused(kernel, village, alice, key):
    caller = Caller(alice, idempotency_key=key)
    refusal("kernel.idempotency-key-invalid", execute, kernel, village.create, caller, village.Create(org="org_a"))


def test_one_key_sent_by_eight_threads_at_once_acts_once(kernel, village, alice):
    start, answers = threading.Barrier(8), []

    def send() -> None:
        start.wait()
        caller = Caller(alice, idempotency_key="race")
        answers.append(execute(kernel, village.create, caller, village.Create(org="org_a", text="once")).id)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert rows(kernel, village.Note) == rows(kernel, village.Witness) == 1


# If-Match


def test_if_match_lets_the_version_seen_pass_and_refuses_a_later_one(kernel, village, alice, note):
    seen = Caller(alice, if_match=etag_of(note.version))
    assert execute(kernel, village.edit, seen, village.Edit(note=note.id, text="mine")).version == note.version + 1
    error = refusal("kernel.version-changed", execute, kernel, village.edit, seen, village.Edit(note=note.id, text="y"))
    assert error.params["current"] == note.version + 1
    assert stored(kernel, village, note.id).text == "mine"


@pytest.mark.parametrize("condition", ["*", '"v1"', '"v7", "v1"'])
def test_if_match_takes_a_star_and_a_list_of_tags(kernel, village, alice, note, condition):
    caller = Caller(alice, if_match=condition)
    assert execute(kernel, village.edit, caller, village.Edit(note=note.id, text="x")).text == "x"


@pytest.mark.parametrize("condition", ['W/"v1"', "v1", '"v2"', "garbage"])
def test_if_match_compares_strongly(kernel, village, alice, note, condition):
    caller = Caller(alice, if_match=condition)
    refusal("kernel.version-changed", execute, kernel, village.edit, caller, village.Edit(note=note.id, text="x"))


def test_if_match_on_what_has_no_version_is_refused_rather_than_ignored(kernel, village, alice):
    kernel.transact(lambda ctx: ctx.add(village.Bare(id="bare_1", org="org_a")), reason="test")
    caller = Caller(alice, if_match="*")
    refusal("kernel.if-match-unsupported", execute, kernel, village.touch, caller, village.Key(note="bare_1"))
    refusal("kernel.if-match-unsupported", execute, kernel, village.create, caller, village.Create(org="org_a"))
    assert rows(kernel, village.Note) == 0


# Input and pages


@pytest.mark.parametrize(
    "fields", [{"org": "a\0b"}, {"org": "a", "labels": ["fine", "a\0b"]}, {"org": "a", "unknown": 1}, {"org": "\ud800"}]
)
def test_input_that_cannot_be_stored_everywhere_or_is_not_known_is_refused(village, fields):
    with pytest.raises(ValidationError):
        village.Create(**fields)


@pytest.mark.parametrize("cursor", ["!", "a", "gA", "AA", "\u00e9", "//"])
def test_a_cursor_that_nobody_gave_out_is_refused(kernel, village, alice, cursor):
    refusal("kernel.cursor-invalid", query, kernel, village.list_notes, Caller(alice), village.List(cursor=cursor))


def test_pages_go_from_the_newest_to_the_oldest_and_end(kernel, village, alice, clock):
    for number in range(5):
        clock.advance(seconds=1)
        execute(kernel, village.create, Caller(alice), village.Create(org="org_a", text=str(number)))
    first = query(kernel, village.list_notes, Caller(alice), village.List(limit=3))
    rest = query(kernel, village.list_notes, Caller(alice), village.List(limit=3, cursor=first.next))
    assert [item.text for item in first.items + rest.items] == ["4", "3", "2", "1", "0"]
    assert rest.next is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    notes=st.lists(st.tuples(st.sampled_from(["org_a", "org_b"]), st.sampled_from(["one", "two"]), st.booleans())),
    org=st.sampled_from([None, "", "org_a", "org_b", "org_c"]),
    text=st.sampled_from([None, "", "one", "three"]),
    limit=st.integers(1, 4),
)
def test_a_list_has_what_the_reader_sees_and_the_fields_ask_for_and_nothing_else(
    kernel, village, alice, notes, org, text, limit
):
    def write(ctx: Any) -> list[str]:
        ctx.session.execute(delete(village.Note))
        return [
            ctx.add(village.Note(id=ctx.new_id("note"), org=where, text=said, public=public)).id
            for where, said, public in notes
        ]

    ids = kernel.transact(write, reason="test")
    wanted = {
        id
        for id, (where, said, public) in zip(ids, notes, strict=True)
        if (public or where == "org_a") and where == (org or where) and said == (text or said)
    }
    shown, cursor = [], None
    while len(shown) <= len(notes):
        asked = village.List(org=org, text=text, limit=limit, cursor=cursor)
        page = query(kernel, village.list_notes, Caller(alice), asked)
        shown += [item.id for item in page.items]
        if (cursor := page.next) is None:
            break
    assert shown == sorted(wanted, reverse=True)


def test_a_list_by_a_column_that_there_is_not_fails_whether_it_is_asked_for_or_not(kernel, village, alice):
    def listed(ctx: Any) -> Any:
        return ctx.listed(village.Note, village.NoteOut, village.Misspelt(), to="village:note:read")

    with pytest.raises(AttributeError, match="organisation"):
        kernel.look(listed, Caller(alice))


@pytest.mark.heavy
def test_a_thousand_small_writes_from_sixteen_threads_lose_none(kernel, village, alice, note):
    failures: list[BaseException] = []

    def write(times: int) -> None:
        try:
            for _ in range(times):
                execute(kernel, village.create, Caller(alice), village.Create(org="org_a"))
        except BaseException as error:
            failures.append(error)

    before = rows(kernel, village.Note)
    threads = [threading.Thread(target=write, args=(1000 // 16 + (number < 1000 % 16),)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert rows(kernel, village.Note) - before == 1000
    assert rows(kernel, village.Witness) == rows(kernel, village.Note)


def test_two_hundred_increments_of_one_row_from_eight_threads_lose_none(kernel, village, alice, note):
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(25):
                execute(kernel, village.count, Caller(alice), village.Key(note=note.id))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert stored(kernel, village, note.id).count == 200


def test_the_system_and_a_foundation_wide_role_reach_every_organisation(kernel, village, note):
    everywhere = Actor("person_op", "person", "op", grants={FOUNDATION: frozenset({"village:note:*"})})
    for actor in (everywhere, SYSTEM):
        assert query(kernel, village.get_note, Caller(actor), village.Key(note=note.id)).id == note.id
