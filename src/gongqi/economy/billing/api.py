"""A month as files: `GET /api/v1/billing/statement/{org}/{month}/statement.csv` and `…/invoice.xml`; and what was issued, an
invoice or a credit note, at `GET /api/v1/billing/invoice/{invoice}/invoice.xml`."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from gongqi.economy.billing import service
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Endpoint
from gongqi.kernel.verbs import Read

HEADERS = {"content-security-policy": "sandbox; default-src 'none'", "cache-control": "private, no-store"}


async def give(request: Request) -> Response:
    return await anyio.to_thread.run_sync(_give, request)


def _give(request: Request) -> Response:
    kernel, caller = request.state.kernel, request.state.caller
    path, name = request.path_params, request.path_params["name"]
    unit = request.query_params.get("unit", service.UNIT)
    if name not in FORMS or "\x00" in path["org"] + path["month"] + unit:
        raise Refused("access.not-found", kind="document", key=name[:100].replace("\x00", ""))
    asked = service.asked(path["org"], path["month"], unit)
    media_type, make = FORMS[name]
    content = kernel.look(lambda ctx: make(ctx, asked), caller)
    file = f"{asked.month}-{asked.unit}-{name}"
    return Response(
        content, media_type=media_type, headers=HEADERS | {"content-disposition": f'attachment; filename="{file}"'}
    )


def _csv(ctx: Read, asked: service.OneStatement) -> str:
    return service.as_csv(service.get_statement.run(ctx, asked))


def _xml(ctx: Read, asked: service.OneStatement) -> bytes:
    return service.xml(service.invoice_of(ctx, asked))


async def give_issued(request: Request) -> Response:
    return await anyio.to_thread.run_sync(_give_issued, request)


def _give_issued(request: Request) -> Response:
    kernel, caller = request.state.kernel, request.state.caller
    key, name = request.path_params["invoice"], request.path_params["name"]
    if name != INVOICE or "\x00" in key:
        raise Refused("access.not-found", kind="document", key=name[:100].replace("\x00", ""))
    asked = service.OneInvoice.model_validate({"invoice": key[:64]})
    issued = kernel.look(lambda ctx: service.get_invoice.run(ctx, asked), caller)
    disposition = f'attachment; filename="{issued.number}.xml"'
    headers = HEADERS | {"content-disposition": disposition}
    return Response(service.xml(issued), media_type="application/xml", headers=headers)


INVOICE = "invoice.xml"
FORMS = {"statement.csv": ("text/csv", _csv), INVOICE: ("application/xml", _xml)}
ENDPOINTS = (
    Endpoint("GET", "/api/v1/billing/statement/{org}/{month}/{name}", give),
    Endpoint("GET", "/api/v1/billing/invoice/{invoice}/{name}", give_issued),
)
