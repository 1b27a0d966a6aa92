"""Deployments: of published releases only, upgraded within one asset, retired when their release is withdrawn."""

from __future__ import annotations

import pytest

from gongqi.kernel.errors import Refused
from gongqi.resources.hub import service as hub


def refused(work, *given, **more):
    with pytest.raises(Refused) as caught:
        work(*given, **more)
    return caught.value.code


def test_a_deployment_names_its_release_price_and_terms(market):
    made = market.served()
    seen = market.ask(market.owner("application"), "serving:deployment:get", deployment=made.id)
    assert (seen.release_name, seen.price_per_row, seen.price_version, seen.state) == ("1.0.0", 3, 1, "ready")
    assert seen.agreement.version == 1 and seen.agreement.retention_days is None and len(seen.agreement.sha256) == 64
    [entry] = market.evidence("serving.deployment-created")
    assert entry.subject == made.id and entry.facts["agreement_sha256"] == seen.agreement.sha256


def test_only_a_published_release_with_one_model_file_is_deployed(market):
    data, revision = market.dataset()
    asset, model = market.model([(revision, "trained-on")])
    draft = market.do(market.owner("laboratory"), "hub:release:draft", asset=asset, revision=model, name="1.0.0")
    assert refused(market.deploy, draft.id) == "serving.release-not-published"
    assert refused(market.deploy, market.release("hospital", data, revision)) == "serving.no-model-file"
    assert refused(market.deploy, "rel_nothing") == "access.not-found"


def test_a_name_is_given_once(market):
    made = market.served()
    market.do(market.operator, "serving:deployment:retire", deployment=made.id)
    assert refused(market.deploy, made.release) == "serving.name-taken"


def test_an_unknown_unit_is_refused(market):
    made = market.served()
    assert refused(market.deploy, made.release, name="other", unit="shells") == "kernel.unit-unknown"


def test_an_upgrade_stays_with_the_asset(market):
    made = market.served()
    other, revision = market.model([(market.data[1], "trained-on")], slug="other")
    release = market.release("laboratory", other, revision)
    code = refused(market.do, market.operator, "serving:deployment:upgrade", deployment=made.id, release=release)
    assert code == "serving.release-of-another-asset"


def test_only_the_host_changes_a_deployment(market):
    made = market.served()
    for verb, more in (("reprice", {"price_per_row": 1}), ("retire", {}), ("upgrade", {"release": made.release})):
        given = {"deployment": made.id, **more}
        code = refused(market.do, market.owner("application"), f"serving:deployment:{verb}", **given)
        assert code == "access.forbidden"


def test_a_change_on_a_version_that_has_moved_is_refused(market):
    made = market.served()
    given = {"deployment": made.id, "price_per_row": 4}
    market.do(market.operator, "serving:deployment:reprice", if_match=f'"v{made.version}"', **given)
    code = refused(market.do, market.operator, "serving:deployment:reprice", if_match=f'"v{made.version}"', **given)
    assert code == "kernel.version-changed"


def test_what_is_withdrawn_is_no_longer_served(market):
    made = market.served()
    market.do(market.operator, "hub:release:withdraw", release=made.release, reason="found wrong")
    market.work()
    seen = market.ask(market.operator, "serving:deployment:get", deployment=made.id)
    assert seen.state == "retired" and len(market.evidence("serving.deployment-retired")) == 1


def test_a_budget_is_set_by_its_organisation_alone(market):
    made = market.served()
    given = {"deployment": made.id, "org": market.orgs["application"], "limit_amount": 5}
    assert refused(market.do, market.owner("laboratory"), "serving:budget:set", **given) == "access.forbidden"
    first = market.budget(made, 5)
    second = market.budget(made, 7)
    assert (second.id, second.limit_amount, second.spent) == (first.id, 7, 0)
    said = market.evidence("serving.budget-set")
    assert [(entry.actor, entry.facts) for entry in said] == [("withheld", {})] * 2


def test_a_route_to_a_release_says_what_the_hub_says_of_it(market):
    made = market.served()
    given = {"name": "server", "base_url": "http://127.0.0.1:1/v1", "private": True}
    endpoint = market.do(market.operator, "serving:endpoint:add", **given).id
    route = {"name": "m", "org": made.org, "context_tokens": 10, "targets": [{"endpoint": endpoint, "model": "m"}]}

    def define(**more):
        return market.do(market.operator, "serving:route:define", **route, **more)

    assert refused(define, release=made.release, licence="MIT") == "serving.route-of-release"
    assert refused(define, release=made.release, openness="open") == "serving.route-of-release"
    market.kernel.transact(lambda ctx: hub.tell_asset(ctx, made.asset, "openness", "class-iii"), reason="test")
    stated = define(release=made.release)
    assert (stated.licence, stated.openness) == ("CC-BY-4.0", "class-iii")
    typed = define(licence="MIT", openness="open-weights")
    assert (typed.licence, typed.openness, typed.release) == ("MIT", "open-weights", None)
