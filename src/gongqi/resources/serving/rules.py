"""What an inference request is, and whether a model can take it. Pure thought: JSON values in, typed tensors out.

The wire form is the Open Inference Protocol v2 (KServe, "Predict Protocol - Version 2"): each tensor has a name, a
datatype, a shape and its values, flat in row-major order or nested exactly as the shape says.

Invariants
- A `Tensor` cannot be wrong: its values have the datatype's kind and range, are finite, and are as many as the shape
  says.
- Nothing is corrected in silence: a float for an INT64, a number for a BOOL, a NaN, a value that FP32 cannot hold, an
  input the model does not know or lacks are each refused by name.
- A row is one step along the model's free first dimension; it is what a price is for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from gongqi.kernel.errors import Refused

FREE = -1  # a dimension that the request chooses
MAX_TENSORS = 32  # inputs or outputs named in one request
MAX_NAME = 200  # characters of a tensor's name or a request's id
MAX_DIMENSIONS = 8  # more than any tensor in practice
MAX_ROWS = 10_000  # in one call; a larger job is many calls, so that no single one keeps the processor
MAX_SHOWN = 100  # characters of somebody's input that an error repeats
FP32_MAX = 3.4028234663852886e38
INTEGERS = {"INT8": 7, "INT16": 15, "INT32": 31, "INT64": 63}
UNSIGNED = {"UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64}
DATATYPES = frozenset({"BOOL", "FP32", "FP64", "BYTES", *INTEGERS, *UNSIGNED})

_NOT_A_NUMBER = re.compile(rb"[\s:,\[]-?(NaN|Infinity)\s*[,\]}]")
_REQUEST_FIELDS = frozenset({"id", "parameters", "inputs", "outputs"})
_TENSOR_FIELDS = frozenset({"name", "shape", "datatype", "data", "parameters"})


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model. `shape` has FREE where any length is taken."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def is_by_row(self) -> bool:
        return bool(self.shape) and self.shape[0] == FREE


@dataclass(frozen=True, slots=True)
class Ports:
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """`values` in row-major order: bool, int, float or str, as the datatype says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "shape": list(self.shape), "datatype": self.datatype, "data": list(self.values)}


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose tensors are sound in themselves; `fit` says whether a model takes it."""

    id: str | None
    org: str | None  # the parameter `org`: in whose name, when the caller may call for several organisations
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]


# --- reading ---------------------------------------------------------------------------------------------------------


def parse_request(body: bytes) -> Request:
    """A request body as a `Request`.

    Raises Refused: serving.request-malformed, serving.number-not-finite, serving.datatype-unknown,
    serving.data-mistyped, serving.shape-invalid, serving.element-count.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if found := _NOT_A_NUMBER.search(body):  # JSON has no such literal, but writers of JSON do
            raise Refused("serving.number-not-finite", input="?", value=found[1].decode()) from error
        if "infinity" in str(error):  # such as 1e400
            raise Refused("serving.number-not-finite", input="?", value="Infinity") from error
        raise _malformed("body", "JSON") from error
    fields = _object(document, "body", _REQUEST_FIELDS)
    inputs = _list(fields.get("inputs"), "inputs")
    outputs = _list(fields.get("outputs") or [], "outputs")
    if not 0 < len(inputs) <= MAX_TENSORS or len(outputs) > MAX_TENSORS:
        raise _malformed("inputs", f"1-{MAX_TENSORS}")
    parameters = _object(fields.get("parameters") or {}, "parameters")
    org = parameters.get("org")
    if org is not None:
        org = _text(org, "parameters.org")
    return Request(
        id=None if fields.get("id") is None else _text(fields["id"], "id"),
        org=org,
        inputs=tuple(_tensor(each, f"inputs.{number}") for number, each in enumerate(inputs)),
        outputs=tuple(
            _text(_object(each, f"outputs.{number}", frozenset({"name", "parameters"})).get("name"), "outputs.name")
            for number, each in enumerate(outputs)
        ),
    )


def _tensor(value: Any, where: str) -> Tensor:
    fields = _object(value, where, _TENSOR_FIELDS)
    name = _text(fields.get("name"), f"{where}.name")
    datatype = _text(fields.get("datatype"), f"{where}.datatype")
    if datatype not in DATATYPES:
        raise Refused("serving.datatype-unknown", input=name[:MAX_SHOWN], datatype=datatype[:MAX_SHOWN])
    shape = _list(fields.get("shape"), f"{where}.shape")
    if len(shape) > MAX_DIMENSIONS or any(type(size) is not int or not 0 <= size < 2**31 for size in shape):
        raise Refused("serving.shape-invalid", input=name[:MAX_SHOWN], shape=str(shape)[:MAX_SHOWN])
    flat = _flat(_list(fields.get("data"), f"{where}.data"), shape, name)
    _check_values(flat, datatype, name)
    return Tensor(name, datatype, tuple(shape), flat)


def _flat(data: list[Any], shape: list[int], name: str) -> list[Any]:
    """The values of `data` in row-major order, as many as `shape` says."""
    want, level = math.prod(shape), data
    if any(type(each) is list for each in data):
        for size in shape[1:] or [0]:
            if any(type(each) is not list or len(each) != size for each in level):
                raise Refused("serving.shape-invalid", input=name[:MAX_SHOWN], shape=str(shape)[:MAX_SHOWN])
            level = list(chain.from_iterable(level))
    if len(level) != want:
        raise Refused("serving.element-count", input=name[:MAX_SHOWN], got=len(level), want=want)
    return level


def _check_values(values: list[Any], datatype: str, name: str) -> None:
    kinds = set(map(type, values))
    takes = {"BOOL": {bool}, "BYTES": {str}, "FP32": {int, float}, "FP64": {int, float}}.get(datatype, {int})
    if not kinds <= takes:
        found = ", ".join(sorted(kind.__name__ for kind in kinds - takes))
        raise Refused("serving.data-mistyped", input=name[:MAX_SHOWN], datatype=datatype, found=found)
    if not values or datatype in ("BOOL", "BYTES"):
        return
    low, high = _range(datatype)
    if not all(map(math.isfinite, values)):
        raise Refused("serving.number-not-finite", input=name[:MAX_SHOWN], value="Infinity")
    if min(values) < low or max(values) > high:
        raise Refused("serving.number-out-of-range", input=name[:MAX_SHOWN], datatype=datatype)


def _range(datatype: str) -> tuple[float, float]:
    if bits := INTEGERS.get(datatype):
        return -(2**bits), 2**bits - 1
    if bits := UNSIGNED.get(datatype):
        return 0, 2**bits - 1
    return (-FP32_MAX, FP32_MAX) if datatype == "FP32" else (-math.inf, math.inf)


def _object(value: Any, where: str, known: frozenset[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _malformed(where, "object")
    if known is not None and (unknown := set(value) - known):
        raise _malformed(f"{where}.{min(unknown)[:MAX_SHOWN]}", "unknown")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _malformed(where, "list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or "\0" in value:
        raise _malformed(where, f"text, 1-{MAX_NAME}")
    return value


def _malformed(where: str, why: str) -> Refused:
    return Refused("serving.request-malformed", where=where, why=why)


# --- fitting a model -------------------------------------------------------------------------------------------------


def fit(request: Request, ports: Ports) -> int:
    """How many rows the request asks of a model with these ports.

    Raises Refused: serving.input-unknown, serving.input-missing, serving.input-twice, serving.datatype-differs,
    serving.shape-differs, serving.rows-differ, serving.rows-out-of-range, serving.output-unknown.
    """
    known = {port.name: port for port in ports.inputs}
    given = {tensor.name: tensor for tensor in request.inputs}
    if len(given) < len(request.inputs):
        raise Refused("serving.input-twice", input=_first(request.inputs, lambda each: each is not given[each.name]))
    if unknown := sorted(given.keys() - known.keys()):
        raise Refused("serving.input-unknown", input=unknown[0][:MAX_SHOWN], known=", ".join(known)[:MAX_SHOWN])
    if missing := sorted(known.keys() - given.keys()):
        raise Refused("serving.input-missing", input=missing[0][:MAX_SHOWN])
    for name, tensor in given.items():
        _check_port(tensor, known[name])
    names = [port.name for port in ports.outputs]
    if strange := [name for name in request.outputs if name not in names]:
        raise Refused("serving.output-unknown", output=strange[0][:MAX_SHOWN], known=", ".join(names)[:MAX_SHOWN])
    counts = {given[name].shape[0] for name, port in known.items() if port.is_by_row} or {1}
    if len(counts) > 1:
        raise Refused("serving.rows-differ", counts=", ".join(map(str, sorted(counts))))
    rows = counts.pop()
    if not 0 < rows <= MAX_ROWS:
        raise Refused("serving.rows-out-of-range", rows=rows, limit=MAX_ROWS)
    return rows


def _check_port(tensor: Tensor, port: Port) -> None:
    if tensor.datatype != port.datatype:
        raise Refused("serving.datatype-differs", input=port.name[:MAX_SHOWN], got=tensor.datatype, want=port.datatype)
    fits = len(tensor.shape) == len(port.shape) and all(
        want in (FREE, got) for got, want in zip(tensor.shape, port.shape, strict=True)
    )
    if not fits:
        got, want = str(list(tensor.shape)), str(list(port.shape))
        raise Refused("serving.shape-differs", input=port.name[:MAX_SHOWN], got=got, want=want)


def _first(tensors: Sequence[Tensor], which: Callable[[Tensor], bool]) -> str:
    return next(tensor.name for tensor in tensors if which(tensor))[:MAX_SHOWN]


# --- money -----------------------------------------------------------------------------------------------------------


def check_budget(*, limit: int, spent: int, reserved: int, fee: int) -> None:
    """Refuse a fee that the budget does not cover. Raises Refused: serving.budget-zero, serving.budget-exceeded."""
    if limit == 0:
        raise Refused("serving.budget-zero")
    left = limit - spent - reserved
    if fee > left:
        raise Refused("serving.budget-exceeded", fee=fee, left=max(left, 0), limit=limit)
