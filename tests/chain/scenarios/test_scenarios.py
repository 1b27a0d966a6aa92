"""The loop back: signed, reported, returned once, into a dataset the model learned from."""

from __future__ import annotations

from functools import partial

import pytest
from pydantic import ValidationError

from gongqi.chain.scenarios import flows
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.serving.engine import Engine

OUTCOMES = [
    {"row": 0, "record": "s-2", "features": {"a": 1.0, "b": 0.1}, "label": 1},
    {"row": 1, "record": "s-1", "features": {"b": 0.5, "a": 2}, "label": 0},
]
ROWS = 4  # of the call that a test reports about unless it says another
NEXT_TABLE = b"record,a,b,ill\nr-1,0.25,0.5,0\nr-2,1.5,2.0,1\ns-1,2.0,0.5,0\ns-2,1.0,0.1,1\n"


@pytest.fixture
def deployment(market):
    made = market.served()
    market.fund(1000)
    market.budget(made, 1000)
    return made


def sign(market, deployment, role="application", **more):
    given = {"deployment": deployment.id, "org": market.orgs[role], **more}
    return market.do(market.owner(role), "scenarios:agreement:sign", **given)


def called(market, rows=ROWS, **more):
    return market.infer([(1.0, 2.0)] * rows, **more)["parameters"]["call"]


def report(market, deployment, records=OUTCOMES, role="application", **more):
    """Outcomes of `call`, or of the first there was."""
    if "call" not in more:
        calls = [call.id for call in market.calls() if call.deployment == deployment.id]
        more["call"] = calls[-1] if calls else called(market)
    given = {"deployment": deployment.id, "records": records, **more}
    return market.do(market.owner(role), "scenarios:outcome:report", **given)


def start(market, deployment, role="hospital", **more):
    given = {"deployment": deployment.id, "asset": market.data[0], **more}
    return market.do(market.owner(role), "scenarios:return:start", **given)


def get(market, started):
    return market.ask(market.owner("hospital"), "scenarios:return:get", back=started.id)


def table_of(market, revision):
    detail = market.ask(market.operator, "hub:revision:get", revision=revision)
    [file] = [file for file in detail.files if file.path == "data.csv"]
    return market.kernel.blobs.read(file.sha256, limit_bytes=1 << 20), detail


def refused(work, *given, **more):
    with pytest.raises(Refused) as caught:
        work(*given, **more)
    return caught.value.code


def test_an_outcome_is_taken_only_under_a_signed_agreement(market, deployment):
    assert refused(report, market, deployment) == "scenarios.agreement-unsigned"
    signed = sign(market, deployment)
    assert signed.text_sha256 == deployment.agreement.sha256
    assert (report(market, deployment).new, len(market.evidence("scenarios.agreement-signed"))) == (2, 1)
    assert refused(sign, market, deployment) == "scenarios.agreement-already-signed"
    assert refused(sign, market, deployment, role="hospital", version=2) == "scenarios.agreement-moved"


def test_an_agreement_ends_with_its_deployment(market, deployment):
    sign(market, deployment)
    called(market)
    market.do(market.operator, "serving:deployment:retire", deployment=deployment.id)
    assert refused(report, market, deployment) == "scenarios.agreement-ended"
    assert refused(sign, market, deployment, role="laboratory") == "scenarios.agreement-ended"


def test_evidence_tells_neither_who_signed_nor_who_reported_nor_how_much(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    [signed] = market.evidence("scenarios.agreement-signed")
    terms = {"version": 1, "text_sha256": deployment.agreement.sha256}
    assert (signed.actor, signed.facts) == ("withheld", {"deployment": deployment.id} | terms)
    [told] = market.evidence("scenarios.outcomes-reported")
    assert (told.actor, told.subject, told.facts) == ("withheld", deployment.id, {})
    sealed = market.ask(market.operator, "evidence:private:get", entry=told.id).facts
    [call] = market.calls()
    assert sealed == {
        "actor": "per_application", "request_id": "", "org": market.orgs["application"], "call": call.id, "new": 2,
        "known": 0,
    }  # fmt: skip


def test_the_same_outcome_twice_is_ignored_and_another_truth_refused(market, deployment):
    sign(market, deployment)
    report(market, deployment, OUTCOMES[:1])
    again = report(market, deployment)
    assert (again.new, again.known) == (1, 1)
    other = [OUTCOMES[0] | {"label": 0}]
    assert refused(report, market, deployment, other) == "scenarios.outcome-contradicts"
    assert refused(report, market, deployment, [OUTCOMES[0], *other]) == "scenarios.outcome-contradicts"
    assert report(market, deployment, [OUTCOMES[0]] * 2).known == 2


def test_a_report_names_ones_own_settled_call_on_that_deployment_and_nothing_else(market, deployment):
    sign(market, deployment)
    sign(market, deployment, role="laboratory")
    call = called(market)
    assert report(market, deployment, call=call).org == market.orgs["application"]
    assert refused(report, market, deployment, role="laboratory", call=call) == "scenarios.call-unknown"
    assert refused(report, market, deployment, call="call_nothing") == "scenarios.call-unknown"
    other = market.deploy(deployment.release, name="other")
    market.budget(other)
    elsewhere = called(market, name="other")
    assert refused(report, market, deployment, call=elsewhere) == "scenarios.call-unknown"
    given = {"deployment": deployment.id, "records": OUTCOMES, "call": call}
    assert refused(market.do, market.operator, "scenarios:outcome:report", **given) == "scenarios.call-unknown"


def test_without_a_call_there_is_nothing_to_report_about(market, deployment):
    sign(market, deployment)
    with pytest.raises(ValidationError, match="call"):
        market.do(market.owner("application"), "scenarios:outcome:report", deployment=deployment.id, records=OUTCOMES)


def test_a_call_that_failed_has_no_outcomes(market, deployment, monkeypatch):
    sign(market, deployment)

    def fail(*_given):
        raise Unavailable("serving.run-failed", retry_after_seconds=1)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "run", fail)
        with pytest.raises(Unavailable):
            called(market)
    [call] = market.calls()
    assert refused(report, market, deployment, call=call.id) == "scenarios.call-unknown"


def test_an_outcome_is_about_a_row_that_was_asked(market, deployment):
    sign(market, deployment)
    call = called(market, rows=2)
    beyond = [OUTCOMES[0], OUTCOMES[1] | {"row": 2}]
    assert refused(report, market, deployment, beyond, call=call) == "scenarios.row-out-of-range"
    assert market.ask(market.operator, "scenarios:outcome:list").items == []
    report(market, deployment, call=call)
    told = {each.row: each.record for each in market.ask(market.operator, "scenarios:outcome:list").items}
    assert told == {0: "s-2", 1: "s-1"}


def test_a_row_has_one_outcome(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    invented = [OUTCOMES[0] | {"record": "s-9"}]
    assert refused(report, market, deployment, invented) == "scenarios.row-told"
    twice = [OUTCOMES[0] | {"row": 2, "record": "s-8"}, OUTCOMES[0] | {"row": 2, "record": "s-9"}]
    assert refused(report, market, deployment, twice) == "scenarios.row-told"


def test_a_record_asked_about_again_has_its_outcome_already(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    again = called(market)
    assert report(market, deployment, [OUTCOMES[0] | {"row": 3}], call=again).known == 1
    assert report(market, deployment, [OUTCOMES[0] | {"row": 3, "record": "s-9"}], call=again).new == 1


def test_outcomes_become_the_next_revision_of_the_dataset(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    started = start(market, deployment)
    assert (started.state, started.claimed, started.revision) == ("running", 2, None)
    market.work()
    done = get(market, started)
    assert (done.state, done.count, done.set_aside) == ("done", 2, 0)
    table, revision = table_of(market, done.revision)
    assert table == NEXT_TABLE
    assert revision.number == 2 and revision.asset == market.data[0]
    assert {(each.revision, each.relation) for each in revision.lineage} == {
        (market.data[1], "derived-from"), (market.model_revision, "returned-from"),
    }  # fmt: skip
    [entry] = market.evidence("scenarios.outcomes-returned")
    assert entry.facts == {
        "deployment": deployment.id, "asset": market.data[0], "revision": done.revision, "count": 2, "set_aside": 0,
    }  # fmt: skip
    assert refused(start, market, deployment) == "scenarios.nothing-to-return"


def test_the_hospital_sees_outcomes_once_they_are_on_their_way_to_it(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    assert market.ask(market.owner("hospital"), "scenarios:outcome:list").items == []
    start(market, deployment)
    assert len(market.ask(market.owner("hospital"), "scenarios:outcome:list").items) == 2
    for read in ("scenarios:outcome:list", "scenarios:return:list", "scenarios:agreement:list"):
        assert market.ask(market.owner("laboratory"), read).items == []


def test_what_does_not_fit_the_dataset_is_set_aside(market, deployment):
    sign(market, deployment)
    odd = [
        {"row": 1, "record": "r-1", "features": {"a": 9.0, "b": 9.0}, "label": 1},
        {"row": 2, "record": "s-3", "features": {"a": 9.0}, "label": 1},
        OUTCOMES[0],
    ]
    report(market, deployment, odd)
    done = start(market, deployment)
    market.work()
    assert (get(market, done).count, get(market, done).set_aside) == (1, 2)
    items = market.ask(market.operator, "scenarios:outcome:list").items
    reasons = {item.record: item.set_aside for item in items}
    assert reasons == {"r-1": "already-there", "s-3": "columns-differ", "s-2": None}
    table, _ = table_of(market, get(market, done).revision)
    assert b"r-1,0.25,0.5,0\n" in table and b"s-3" not in table


def test_a_return_of_which_nothing_fits_makes_no_revision(market, deployment):
    sign(market, deployment)
    report(market, deployment, [{"row": 0, "record": "r-1", "features": {"a": 1, "b": 1}, "label": 1}])
    started = start(market, deployment)
    market.work()
    assert (get(market, started).state, get(market, started).revision) == ("empty", None)


def test_only_the_datasets_own_organisation_takes_outcomes_back(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    assert refused(start, market, deployment, role="laboratory") == "access.forbidden"


def test_outcomes_go_only_to_a_dataset_the_model_learned_from(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    other, _ = market.dataset("laboratory", "bait")
    assert refused(start, market, deployment, role="laboratory", asset=other) == "scenarios.dataset-unrelated"
    given = {"role": "laboratory", "asset": market.model_asset}
    assert refused(start, market, deployment, **given) == "scenarios.dataset-unrelated"


def test_one_return_into_a_dataset_at_a_time(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    start(market, deployment)
    report(market, deployment, [OUTCOMES[0] | {"row": 2, "record": "s-9"}])
    assert refused(start, market, deployment) == "scenarios.return-running"
    market.work()
    second = start(market, deployment)
    market.work()
    assert get(market, second).count == 1


def test_a_dataset_revised_meanwhile_is_extended_as_it_now_is(market, deployment, monkeypatch):
    sign(market, deployment)
    report(market, deployment)
    started = start(market, deployment)
    build = flows._build

    def overtaken(*given):
        built = build(*given)
        if built["parent"] == 1:
            table = market.bring("hospital", "data.csv", b"record,a,b,ill\nr-7,1.0,1.0,0\n", "datasets")
            market.revision("hospital", market.data[0], [table])
        return built

    monkeypatch.setattr(flows, "_build", overtaken)
    market.work()
    table, revision = table_of(market, get(market, started).revision)
    assert revision.number == 3 and b"r-7" in table and b"s-1" in table


def test_a_dataset_that_cannot_be_extended_frees_its_outcomes(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    started = start(market, deployment)
    table = market.bring("hospital", "data.csv", b"record,a,b,ill\nr-7,1.0\n", "datasets")
    market.revision("hospital", market.data[0], [table])
    market.work()
    failed = get(market, started)
    assert (failed.state, failed.reason) == ("failed", "scenarios.table-malformed")
    assert [item.returned_in for item in market.ask(market.operator, "scenarios:outcome:list").items] == [None, None]
    assert market.evidence("scenarios.return-failed")[0].facts["reason"] == "scenarios.table-malformed"


def test_a_dataset_without_one_table_takes_nothing(market, deployment):
    sign(market, deployment)
    report(market, deployment)
    market.revision("hospital", market.data[0], [market.bring("hospital", "data.csv", b"x,a,b,c\n", "research-paper")])
    assert refused(start, market, deployment) == "scenarios.dataset-without-table"


def test_a_dataset_that_never_rests_is_given_up(market, deployment, monkeypatch, made_codes):
    sign(market, deployment)
    report(market, deployment)
    started = start(market, deployment)
    build = flows._build
    counter = iter(range(100))

    def overtaken(*given):
        built = build(*given)
        line = f"record,a,b,ill\nr-{next(counter)},1.0,1.0,0\n".encode()
        market.revision("hospital", market.data[0], [market.bring("hospital", "data.csv", line, "datasets")])
        return built

    monkeypatch.setattr(flows, "_build", partial(overtaken))
    market.work()
    assert get(market, started).reason == "scenarios.dataset-busy"
    made_codes.add("scenarios.dataset-busy")
