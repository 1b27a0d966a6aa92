"""Signing in: one-time links, passwords, sessions, and what slows guessing."""

from __future__ import annotations

import threading

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, update

from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.verbs import Caller
from gongqi.kernel.worker import Worker
from gongqi.members import service, sessions
from gongqi.members.models import Attempt, ConsoleSession, Password, SignInLink

GOOD = "correct horse battery staple"


def refused(code: str):
    return pytest.raises(Refused, match=rf"^{code}\(")


@pytest.fixture
def person(foundation):
    actor = foundation.person("wei-ling")
    foundation.password(actor, GOOD)
    return actor


def test_a_link_works_once(foundation):
    party = foundation.do(foundation.operator, "members:person:create", handle="wei-ling", name="Wei Ling")
    made = foundation.do(foundation.operator, "members:signin:link", party=party.id)
    assert made.link.startswith("http://127.0.0.1:8420/sign-in/gql_")
    actor = foundation.redeem(made.link)
    assert (actor.id, actor.kind) == (party.id, "person") and actor.session
    with refused("members.link-invalid"):
        foundation.redeem(made.link)


def test_a_link_lasts_fifteen_minutes_and_gives_way_to_the_next(foundation):
    operator = foundation.operator
    party = foundation.do(operator, "members:person:create", handle="wei-ling", name="Wei Ling")
    first = foundation.do(operator, "members:signin:link", party=party.id).link
    second = foundation.do(operator, "members:signin:link", party=party.id).link
    with refused("members.link-invalid"):
        foundation.redeem(first)
    foundation.clock.advance(minutes=15)
    with refused("members.link-invalid"):
        foundation.redeem(second)


def test_two_who_redeem_one_link_at_once_get_one_session(foundation):
    outcomes: list[str] = []

    def redeem() -> None:
        try:
            foundation.redeem(foundation.start.link)
            outcomes.append("in")
        except Refused as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=redeem) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in", *["members.link-invalid"] * 3]


def test_a_password_signs_in_and_its_lack_does_not(foundation, person):
    with foundation.kernel.db.reading() as session:
        stored = session.scalar(select(Password.hash))
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert foundation.by_session(foundation.sign_in("wei-ling", GOOD).secret).id == person.id
    foundation.person("no-password")
    with refused("members.credentials-wrong"):
        foundation.sign_in("no-password", GOOD)


def test_unknown_and_wrong_cost_the_same_and_say_the_same(foundation, person, monkeypatch):
    verified: list[str] = []
    verify = sessions._hasher.verify

    class Counting:
        def verify(self, stored: str, password: str) -> bool:
            verified.append(stored[:31])
            return verify(stored, password)

    monkeypatch.setattr(sessions, "_hasher", Counting())
    sessions._decoy.cache_clear()
    monkeypatch.setattr(sessions, "_decoy", lambda: "$argon2id$v=19$m=19456,t=2,p=1$" + "c2FsdHNhbHRzYWx0$aGFzaGhhc2g")
    errors = []
    for name in ("wei-ling", "nobody-here"):
        with refused("members.credentials-wrong") as caught:
            foundation.sign_in(name, "wrong password, quite long")
        errors.append(caught.value.params)
    assert verified == ["$argon2id$v=19$m=19456,t=2,p=1$"] * 2 and errors[0] == errors[1]


def test_guessing_is_slowed_more_and_more_and_a_right_password_waits_too(foundation, person):
    for _ in range(5):
        with refused("members.credentials-wrong"):
            foundation.sign_in("wei-ling", "wrong")
    with pytest.raises(Unavailable, match="too-many-attempts") as caught:
        foundation.sign_in("wei-ling", GOOD)
    assert 59 <= caught.value.retry_after_seconds <= 61
    assert foundation.sign_in("wei-ling", GOOD, address="198.51.100.7").party == person.id
    foundation.clock.advance(seconds=61)
    with refused("members.credentials-wrong"):
        foundation.sign_in("wei-ling", "wrong")
    with pytest.raises(Unavailable) as caught:
        foundation.sign_in("wei-ling", GOOD)
    assert 119 <= caught.value.retry_after_seconds <= 121
    foundation.clock.advance(seconds=121)
    assert foundation.sign_in("wei-ling", GOOD).party == person.id
    with refused("members.credentials-wrong"):  # the count began anew
        foundation.sign_in("wei-ling", "wrong")
    assert foundation.sign_in("wei-ling", GOOD).party == person.id


def test_parallel_guesses_count_as_many(foundation, person):
    outcomes: list[str] = []

    def guess() -> None:
        try:
            foundation.sign_in("wei-ling", "wrong")
        except (Refused, Unavailable) as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("members.credentials-wrong") == 5
    assert outcomes.count("members.too-many-attempts") == 7


def test_one_address_trying_many_names_is_slowed(foundation, monkeypatch):
    monkeypatch.setattr(sessions, "_verify", lambda _stored, _password: False)  # fifty hashings prove nothing more
    for number in range(50):
        with refused("members.credentials-wrong"):
            foundation.sign_in(f"name-{number}", "wrong")
    with pytest.raises(Unavailable):
        foundation.sign_in("one-more", "wrong")
    with refused("members.credentials-wrong"):
        foundation.sign_in("one-more", "wrong", address="198.51.100.7")


def test_a_session_ends_by_idleness_by_age_and_by_hand(foundation, person):
    kernel = foundation.kernel
    idle = foundation.sign_in("wei-ling", GOOD).secret
    foundation.clock.advance(hours=12)
    with refused("members.session-invalid"):
        foundation.by_session(idle)
    aged = foundation.sign_in("wei-ling", GOOD).secret
    for _ in range(14 * 24 // 8):
        assert foundation.by_session(aged).id == person.id
        foundation.clock.advance(hours=8)
        service.note_use(kernel, aged)
    with refused("members.session-invalid"):
        foundation.by_session(aged)
    ended = foundation.sign_in("wei-ling", GOOD)
    actor = foundation.by_session(ended.secret)
    assert [each.id for each in foundation.ask(actor, "members:session:list").items] == [ended.session]
    foundation.do(actor, "members:session:end", session=ended.session)
    with refused("members.session-invalid"):
        foundation.by_session(ended.secret)


def test_noting_use_writes_only_now_and_then(foundation, person):
    done = foundation.sign_in("wei-ling", GOOD)

    def seen():
        listed = foundation.ask(foundation.by_session(done.secret), "members:session:list").items
        return next(each.last_seen_at for each in listed if each.id == done.session)

    first = seen()
    foundation.clock.advance(minutes=9)
    service.note_use(foundation.kernel, done.secret)
    assert seen() == first
    foundation.clock.advance(minutes=1)
    service.note_use(foundation.kernel, done.secret)
    assert seen() == foundation.clock.now()


def test_setting_a_password_needs_a_fresh_session_and_ends_the_others(foundation, person):
    other, here = (foundation.sign_in("wei-ling", GOOD).secret for _ in range(2))
    token = foundation.do(person, "members:token:issue", label="script").secret
    with refused("members.fresh-sign-in-needed"):
        foundation.password(foundation.by_token(token), "another long password")
    foundation.password(foundation.by_session(here), "another long password")
    with refused("members.session-invalid"):
        foundation.by_session(other)
    foundation.by_session(here)
    with refused("members.credentials-wrong"):
        foundation.sign_in("wei-ling", GOOD)
    foundation.clock.advance(minutes=15)
    with refused("members.fresh-sign-in-needed"):
        foundation.password(foundation.by_session(here), "yet another password")


def test_a_poor_password_is_refused(foundation):
    actor = foundation.person("wei-ling")
    for password in ("short", "fourteen chars"):
        with refused("members.password-length"):
            foundation.password(actor, password)
    for password in ("aaaaaaaaaaaaaaaaaaaa", "I am wei-ling, hello", "WEI-LING TEST is my name"):
        with refused("members.password-plain"):
            foundation.password(actor, password)
    with pytest.raises(ValidationError):
        foundation.password(actor, "long" * 65)


def test_the_same_keys_are_the_same_password_in_every_normal_form(foundation):
    actor = foundation.person("wei-ling")
    foundation.password(actor, "cafe\u0301 au lait, s'il vous plait")
    foundation.sign_in("wei-ling", "caf\u00e9 au lait, s'il vous plait")


def test_an_old_hash_is_renewed_at_the_next_sign_in(foundation, person):
    from argon2 import PasswordHasher

    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(GOOD)
    foundation.kernel.transact(lambda ctx: ctx.session.execute(update(Password).values(hash=old)) and None, reason="t")
    foundation.sign_in("wei-ling", GOOD)
    with foundation.kernel.db.reading() as session:
        assert "m=19456,t=2,p=1" in session.scalar(select(Password.hash))


def test_no_secret_or_password_lies_in_the_database_in_clear(foundation, person):
    done = foundation.sign_in("wei-ling", GOOD)
    link = foundation.do(foundation.operator, "members:signin:link", party=person.id).link.rsplit("/", 1)[1]
    with foundation.kernel.db.reading() as session:
        rows = [session.execute(select(m.__table__)).all() for m in (ConsoleSession, SignInLink, Password, Attempt)]
    assert all(secret not in repr(rows) for secret in (GOOD, done.secret, link, "192.0.2.1"))
    assert GOOD not in repr(service.SetPassword(password=GOOD))


def test_what_has_had_its_time_is_forgotten(foundation, person):
    with refused("members.credentials-wrong"):
        foundation.sign_in("somebody-else", "wrong", address="198.51.100.7")
    foundation.sign_in("wei-ling", GOOD)
    foundation.do(foundation.operator, "members:signin:link", party=person.id)
    foundation.clock.advance(days=2)
    kept = foundation.sign_in("wei-ling", GOOD)
    foundation.kernel.transact(lambda ctx: ctx.start_flow("members.forget", key="now") and None, reason="test")
    Worker(foundation.kernel).run_until_idle()

    def count(model) -> int:
        with foundation.kernel.db.reading() as session:
            return session.scalar(select(func.count()).select_from(model)) or 0

    assert [count(ConsoleSession), count(SignInLink), count(Attempt)] == [1, 0, 2]  # of today: name and address
    assert foundation.by_session(kept.secret).id == person.id


def test_a_browser_is_summarised(foundation, person):
    agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_0) AppleWebKit/605.1.15 Version/19 Safari/605"
    caller = Caller(ANONYMOUS, address="192.0.2.1")
    done = service.sign_in(foundation.kernel, caller, handle="wei-ling", password=GOOD, user_agent=agent)
    browsers = {
        each.id: each.browser
        for each in foundation.ask(foundation.by_session(done.secret), "members:session:list").items
    }
    assert browsers[done.session] == "Safari, macOS" and "Firefox, Linux" in browsers.values()


# ---- whose link it was


def test_a_session_says_whose_link_it_began_with_and_so_do_its_tokens(foundation):
    person = foundation.person("wei-ling")
    operator = foundation.operator.id
    assert person.link_of == operator
    assert foundation.ask(person, "members:me:show").link_of == operator
    assert {each.link_of for each in foundation.ask(person, "members:session:list").items} == {operator}
    issued = foundation.do(person, "members:token:issue", label="script")
    assert issued.link_of == foundation.by_token(issued.secret).link_of == operator


def test_the_first_password_is_ones_own(foundation, person):
    assert person.link_of == foundation.operator.id
    own = foundation.by_session(foundation.sign_in("wei-ling", GOOD).secret)
    assert own.link_of is None
    issued = foundation.do(own, "members:token:issue", label="script")
    assert foundation.by_token(issued.secret).link_of is None


def test_the_link_that_the_server_shows_is_ones_own(foundation):
    operator = foundation.redeem(foundation.start.link)
    assert operator.link_of is None and operator.token is None
    foundation.password(operator, GOOD)
    assert foundation.by_session(foundation.sign_in("operator", GOOD).secret).link_of is None


def test_a_link_for_oneself_takes_no_mark_away(foundation):
    """Whoever came in as an operator by another operator's link makes themselves a link: it is still the other's."""
    second = foundation.person("second")
    given = {"party": second.id, "org": "*", "role": "operator"}
    foundation.do(foundation.redeem(foundation.start.link), "members:membership:grant", **given)
    second = foundation.again(second)
    again = foundation.redeem(foundation.do(second, "members:signin:link", party=second.id).link)
    assert again.link_of == foundation.operator.id


def test_a_password_replaced_by_anothers_link_is_public_and_bears_the_mark_for_a_week(foundation, person):
    other = "seventeen purple umbrellas"
    foundation.evidence.clear()
    foundation.password(foundation.again(person), other)
    replaced = [entry for entry in foundation.evidence if entry.kind == "members.password-replaced"]
    assert [(each.subject, each.facts) for each in replaced] == [(person.id, {"link_of": foundation.operator.id})]
    with refused("members.credentials-wrong"):
        foundation.sign_in("wei-ling", GOOD)
    marked = foundation.by_session(foundation.sign_in("wei-ling", other).secret)
    assert marked.link_of == foundation.operator.id
    foundation.clock.advance(days=6, hours=23)
    assert foundation.by_session(foundation.sign_in("wei-ling", other).secret).link_of == foundation.operator.id
    foundation.clock.advance(hours=1)
    own = foundation.by_session(foundation.sign_in("wei-ling", other).secret)
    assert own.link_of is None
    foundation.evidence.clear()
    foundation.password(own, GOOD)
    assert foundation.evidence == []
    assert foundation.by_session(foundation.sign_in("wei-ling", GOOD).secret).link_of is None
