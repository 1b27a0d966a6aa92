"""Serving's verbs and reads, and the plain functions that rooms above call. By idea: `deployments` → `calls`;
`endpoints` → `routes` → `keys` → `aid` → `leases` → `settlement` → `usage` → `feedback` for the gateway; `agreements` for
both."""

from gongqi.resources.serving.agreements import Agreement
from gongqi.resources.serving.aid import end_aid, set_aid
from gongqi.resources.serving.calls import (
    CLEARING,
    CallOut,
    ListCalls,
    OneCall,
    get_call,
    get_receipt,
    infer,
    list_calls,
    org_for,
    require_caller,
    settled_call,
    sweep,
    totals,
)
from gongqi.resources.serving.deployments import (
    BudgetOut,
    Create,
    DeploymentOut,
    ListBudgets,
    ListDeployments,
    OneDeployment,
    Reprice,
    SetBudget,
    Upgrade,
    actions,
    count_deployments,
    create,
    deployment_facts,
    deployment_named,
    get_deployment,
    is_reachable,
    list_budgets,
    list_deployments,
    reprice,
    retire,
    retire_withdrawn,
    set_budget,
    upgrade,
    visible_deployments,
)
from gongqi.resources.serving.feedback import (
    Said,
    claim_feedback,
    claimed_feedback,
    end_feedback,
    feedback_totals,
    free_feedback,
)
from gongqi.resources.serving.metering import GENERAL, MAX_NANOS, Tariff, exact
from gongqi.resources.serving.months import NO_SUMS, Sums, charged, names_of, own_until, sums_of
from gongqi.resources.serving.routes import ListRoutes, RatesOut, RouteOut, list_routes, route_facts, set_tariff
from gongqi.resources.serving.rules import MAX_ROWS

__all__ = [
    "CLEARING", "GENERAL", "MAX_NANOS", "MAX_ROWS", "NO_SUMS", "Agreement", "BudgetOut", "CallOut", "Create",
    "DeploymentOut", "ListBudgets", "ListCalls", "ListDeployments", "ListRoutes", "OneCall", "OneDeployment",
    "RatesOut", "Reprice", "RouteOut", "Said", "SetBudget", "Sums", "Tariff", "Upgrade", "actions", "charged",
    "claim_feedback", "claimed_feedback", "count_deployments", "create", "deployment_facts", "deployment_named",
    "end_aid", "end_feedback", "exact", "feedback_totals", "free_feedback", "get_call", "get_deployment",
    "get_receipt", "infer", "is_reachable", "list_budgets", "list_calls", "list_deployments", "list_routes",
    "names_of", "org_for", "own_until", "reprice", "require_caller", "retire", "retire_withdrawn", "route_facts",
    "set_aid", "set_budget", "set_tariff", "settled_call", "sums_of", "sweep", "totals", "upgrade",
    "visible_deployments",
]  # fmt: skip
