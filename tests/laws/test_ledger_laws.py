"""What must always hold of the ledger, whatever is asked of it and however many ask at once."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gongqi.books.ledger import replay, rules
from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.models import Balance, Transaction
from gongqi.books.ledger.room import ROOM
from gongqi.books.ledger.service import Draft, Line
from gongqi.kernel.access import Vocabulary
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.room import House, Kernel

OWNERS = ("org_a", "org_b", "org_c")
UNITS = ("credit", "point")
AMOUNTS = st.integers(1, 60)
ACCOUNTS = st.sampled_from([(owner, unit) for owner in OWNERS for unit in UNITS])
LINES = st.lists(st.tuples(ACCOUNTS, st.integers(-60, 60)), min_size=1, max_size=5)
KEYS = st.sampled_from([f"k{number}" for number in range(6)])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("issue"), KEYS, ACCOUNTS, AMOUNTS),
        st.tuples(st.just("post"), KEYS, LINES),
        st.tuples(st.just("reserve"), KEYS, ACCOUNTS, AMOUNTS),
        st.tuples(st.just("settle"), KEYS, ACCOUNTS, AMOUNTS),
        st.tuples(st.just("release"), KEYS),
        st.tuples(st.just("reverse"), KEYS, KEYS),
        st.tuples(st.just("expire")),
        st.tuples(st.just("wait"), st.integers(1, 90)),
    ),
    max_size=14,
)
_NUMBERS = itertools.count()


@pytest.fixture
def kernel(build: Callable[..., Kernel], clock: Any) -> Kernel:
    return build(House.build([ROOM], Vocabulary({})), clock=clock)


class World:
    """Three owners of their own in two units; keeps what every acknowledged operation must have left behind."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.prefix = f"w{next(_NUMBERS)}-"
        self.posted: dict[str, ledger.TransactionOut] = {}
        self.ends: Counter[str] = Counter()

    def do(self, operation: tuple[Any, ...]) -> Any:
        name, *arguments = operation
        before = self.balances()
        try:
            out = self.kernel.transact(lambda ctx: getattr(self, f"_{name}")(ctx, *arguments), reason="law")
        except Refused:
            assert self.balances() == before, f"{operation} was refused and still moved something"
            return None
        if isinstance(out, ledger.TransactionOut):
            assert self.posted.setdefault(out.id, out) == out, "one id, two transactions"
        if name in ("settle", "release") and self.balances() != before:
            self.ends[out.id] += 1
        return out

    def balances(self) -> dict[str, int]:
        with self.kernel.db.reading() as session:
            rows = session.execute(select(Balance.account_id, Balance.amount))
            return {account: amount for account, amount in rows if account.startswith(self.prefix) and amount}

    def account(self, ctx: Any, place: tuple[str, str]) -> str:
        return ledger.account(ctx, self.prefix + place[0], place[1])

    def _key(self, *parts: str) -> str:
        return ":".join((self.prefix, *parts))

    def _issue(self, ctx: Any, key: str, place: tuple[str, str], amount: int) -> Any:
        issuer = ledger.account(ctx, self.prefix + "foundation", place[1], "issued", floor=None)
        lines = (Line(issuer, -amount), Line(self.account(ctx, place), amount))
        return ledger.post(ctx, key=self._key("p", key), kind="test.issue", subject="s", postings=lines)

    def _post(self, ctx: Any, key: str, raw: list[tuple[tuple[str, str], int]]) -> Any:
        lines = [Line(self.account(ctx, place), amount) for place, amount in raw if amount]
        for unit in UNITS:  # what is missing for balance moves against one more account
            total = sum(amount for place, amount in raw if place[1] == unit)
            if total:
                lines.append(Line(self.account(ctx, ("org_rest", unit)), -total))
        return ledger.post(ctx, key=self._key("p", key), kind="test.post", subject="s", postings=lines)

    def _reserve(self, ctx: Any, key: str, place: tuple[str, str], amount: int) -> Any:
        later = ctx.now + timedelta(seconds=60)
        payer = self.account(ctx, place)
        return ledger.reserve(ctx, key=self._key("h", key), payer=payer, amount=amount, subject="s", expires_at=later)

    def _settle(self, ctx: Any, key: str, place: tuple[str, str], amount: int) -> Any:
        hold = rules.hold_id(self._key("h", key))
        return ledger.settle(ctx, hold=hold, lines=[Line(self.account(ctx, place), amount)])

    def _release(self, ctx: Any, key: str) -> Any:
        return ledger.release(ctx, hold=rules.hold_id(self._key("h", key)), reason="cancelled")

    def _reverse(self, ctx: Any, key: str, by: str) -> Any:
        target = rules.transaction_id(self._key("p", key))
        return ledger.reverse(ctx, target, key=self._key("r", by), reason="error")

    def _expire(self, ctx: Any) -> Any:
        return ledger.expire_holds(ctx)

    def _wait(self, ctx: Any, seconds: int) -> None:
        ctx.kernel.clock.advance(seconds=seconds)


def assert_true(kernel: Kernel) -> None:
    with kernel.db.reading() as session:
        report = replay.report(session)
    assert report.findings == []
    assert all(unit.sum == 0 for unit in report.units)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_after_any_operations_the_book_replays_true_and_what_was_refused_left_no_trace(
    kernel: Kernel, operations: list[tuple[Any, ...]]
) -> None:
    world = World(kernel)
    for operation in operations:
        world.do(operation)
    assert_true(kernel)
    assert all(count == 1 for count in world.ends.values()), "a hold ended twice"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=LINES, amount=AMOUNTS, charge=AMOUNTS)
def test_undoing_everything_in_any_unit_restores_every_balance(
    kernel: Kernel, raw: list[Any], amount: int, charge: int
) -> None:
    world = World(kernel)
    for number, place in enumerate([(owner, unit) for owner in (*OWNERS, "org_rest") for unit in UNITS]):
        world.do(("issue", f"i{number}", place, 1_000))
    before = world.balances()
    posted = world.do(("post", "a", raw))
    hold = world.do(("reserve", "a", ("org_a", "credit"), amount))
    settled = world.do(("settle", "a", ("org_b", "credit"), charge))
    assert (settled is None) == (charge > amount), "a settlement takes at most what was reserved"
    if settled is None:
        world.do(("release", "a"))
    undo = [posted.id if posted else None, settled.ended_by if settled else None]
    for number, transaction in enumerate(filter(None, undo)):
        kernel.transact(
            lambda ctx, t=transaction, n=number: ledger.reverse(ctx, t, key=f"{world.prefix}u{n}", reason="error"),
            reason="law",
        )
    assert hold is not None and world.balances() == before
    assert_true(kernel)


@given(raw=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-9, 9)), min_size=2, max_size=6))
def test_a_draft_is_sound_exactly_when_every_unit_sums_to_zero(raw: list[tuple[str, int]]) -> None:
    lines = tuple(Line(f"{owner}:credit:x", amount) for owner, amount in raw)
    sound = sum(amount for _, amount in raw) == 0 and all(amount for _, amount in raw)
    try:
        rules.require_sound(Draft("k", "test.post", "s", lines))
    except Refused:
        assert not sound
    else:
        assert sound


@given(
    raw=st.permutations([("a", 3), ("b", -1), ("c", -2)]),
    facts=st.dictionaries(st.text(max_size=3), st.integers(0, 9)),
)
def test_the_digest_does_not_depend_on_the_order_of_lines_or_facts_and_does_on_everything_else(
    raw: list[tuple[str, int]], facts: dict[str, int]
) -> None:
    usual = rules.digest("t.k", "s", [("a", 3), ("b", -1), ("c", -2)], facts, None)
    assert rules.digest("t.k", "s", raw, dict(reversed(facts.items())), None) == usual
    others = [
        rules.digest("t.l", "s", raw, facts, None),
        rules.digest("t.k", "t", raw, facts, None),
        rules.digest("t.k", "s", raw[:2], facts, None),
        rules.digest("t.k", "s", raw, {**facts, "more": 1}, None),
        rules.digest("t.k", "s", raw, facts, "txn_x"),
    ]
    assert usual not in others and len(set(others)) == 5


@given(
    reserved=st.integers(1, 1000),
    credits=st.lists(st.tuples(st.sampled_from(["b", "c"]), st.integers(1, 700)), max_size=3),
)
def test_a_settlement_never_exceeds_the_reserve_and_empties_the_hold(reserved: int, credits: list[Any]) -> None:
    lines = [Line(f"{owner}:credit:available", amount) for owner, amount in credits]
    charged = sum(amount for _, amount in credits)
    if charged > reserved:
        with pytest.raises(Refused, match="settle-above-reserve"):
            rules.settlement("a:credit:held", "a:credit:available", reserved, lines)
        return
    final = rules.settlement("a:credit:held", "a:credit:available", reserved, lines)
    assert sum(amount for _, amount in final) == 0 and final[0] == ("a:credit:held", -reserved)
    assert sum(amount for account, amount in final if account == "a:credit:available") == reserved - charged


THREADS = 8
ROUNDS = 25


def test_eight_threads_in_any_interleaving_leave_a_true_book(kernel: Kernel) -> None:
    """Each thread moves, reserves, settles and repeats itself on three shared accounts; an answer is never lost."""
    world = World(kernel)
    for number, owner in enumerate(OWNERS):
        world.do(("issue", f"i{number}", (owner, "credit"), 200))
    answers: list[list[ledger.TransactionOut]] = [[] for _ in range(THREADS)]
    failures: list[BaseException] = []

    def insist(work: Callable[[Any], Any]) -> Any:
        """A caller told to come back does so, with the same key."""
        while True:
            try:
                return kernel.transact(work, reason="law")
            except Unavailable:
                continue
            except Refused as refusal:
                assert refusal.code in {"ledger.balance-too-low", "ledger.hold-ended"}, refusal
                return None

    def one(thread: int, number: int, source: str, target: str) -> None:
        key = f"{thread}-{number}"
        if number % 5 == 0:  # the same operation from every thread
            key, source, target = f"shared-{number}", OWNERS[number % 3], OWNERS[(number + 1) % 3]
        raw = [((source, "credit"), -7), ((target, "credit"), 7)]
        if number % 3:
            out = insist(lambda ctx: world._post(ctx, key, raw))
            again = insist(lambda ctx: world._post(ctx, key, raw))
            assert out is None or out == again
            answers[thread] += [out] if out else []
        elif insist(lambda ctx: world._reserve(ctx, key, (source, "credit"), 9)):
            insist(lambda ctx: world._settle(ctx, key, (target, "credit"), 4))

    def guarded(thread: int) -> None:
        chance = random.Random(thread)
        try:
            for number in range(ROUNDS):
                one(thread, number, *chance.sample(OWNERS, 2))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_true(kernel)
    assert sum(amount for account, amount in world.balances().items() if ":issued" not in account) == 600
    for out in itertools.chain.from_iterable(answers):
        assert kernel.look(lambda ctx, out=out: ctx.session.get(Transaction, out.id)).sequence == out.sequence
