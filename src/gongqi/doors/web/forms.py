"""A form, both ways: the fields of an input as form.html draws them, and what was typed as an input.

The names say where a value belongs: `org`, `terms.days` in a group, `files.0.path` in the first row of a list. Rows are
as many as the names that came back say, and one more when its button was pressed; a row left empty is nothing.

Limits: `MAX_ROWS` of one list; `MAX_FORM_FIELDS` of one form, so no form that comes back can make a large one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from gongqi.doors.fields import Field, fields_of
from gongqi.doors.web import api
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input

MAX_FORM_FIELDS = 1000
MAX_ROWS = 50  # of one list on one form; longer lists are for programs
LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?")

Drawn = dict[str, Any]


def typed_in(body: bytes) -> dict[str, str]:
    """A sent form; of several values of one name (a list) the lines are joined."""
    typed: dict[str, str] = {}
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError as error:
        raise Refused("web.request-malformed", why=str(error)) from error
    for name, value in pairs:
        value = value.replace("\r\n", "\n")
        typed[name] = f"{typed[name]}\n{value}" if name in typed else value
    return typed


def with_one_more(typed: Mapping[str, str], name: str) -> dict[str, str]:
    """What was typed, with a row more in the list `name`."""
    return {**typed, f"{name}.rows": str(rows_in(name, typed) + 1)}


def without_row(typed: Mapping[str, str], row: str) -> dict[str, str]:
    """What was typed, without this row of a list (`files.1`); those after it move up."""
    name, _, number = row.rpartition(".")
    if not name or not number.isdecimal():
        return dict(typed)
    gone, count = int(number[:3]), rows_in(name, typed)
    within = re.compile(re.escape(name) + r"\.(\d{1,3})\.(.+)")
    kept = {}
    for key, value in typed.items():
        found = within.fullmatch(key)
        if found is None:
            kept[key] = value
        elif (at := int(found[1])) != gone:
            kept[f"{name}.{at - (at > gone)}.{found[2]}"] = value
    return kept | {f"{name}.rows": str(max(count - 1, 1))}


def rows_in(name: str, typed: Mapping[str, str]) -> int:
    """How many rows of the list `name` are on the form."""
    pattern = re.compile(re.escape(name) + r"\.(\d{1,3})\.")
    numbers = [int(match[1]) for key in typed if (match := pattern.match(key))]
    asked_for = typed.get(f"{name}.rows", "0")
    return min(MAX_ROWS, max([number + 1 for number in numbers] + [int(asked_for[:3]) if asked_for.isdecimal() else 0]))


# ---- drawn ---------------------------------------------------------------------------------------


def drawn(
    fields: Sequence[Field],
    typed: Mapping[str, str],
    wrong: Mapping[str, str],
    *,
    prefix: str = "",
    required: bool = True,
) -> list[Drawn]:
    """Each field as form.html draws it: what it is, what was typed, what is wrong with it, and the fields within.

    `required` says whether what holds these fields is: a part of something optional may be left empty with it.
    """
    return [_drawn(field, typed, wrong, prefix + field.name, required=required and field.required) for field in fields]


def _drawn(field: Field, typed: Mapping[str, str], wrong: Mapping[str, str], name: str, *, required: bool) -> Drawn:
    was_sent = bool(typed.get("csrf"))
    value = None if field.is_secret else typed.get(name)
    if field.kind == "flag" and was_sent:
        value = str(name in typed).lower()  # a box left unticked is not sent at all
    has_parts = field.kind in ("group", "rows")
    each = {"name": name, "word": field.name, "kind": field.kind, "schema": field.schema, "value": value}
    each |= {"required": required, "error": _said_of(wrong, name, whole=not has_parts), "rows": [], "more": False}
    each |= {"is_new": name in (typed.get("more"), typed.get("less", "").rpartition(".")[0])}
    given = field.schema.get("default")
    if field.kind == "group":
        known = typed if was_sent else {**flat(name, given), **typed}
        each["rows"] = [drawn(field.parts, known, wrong, prefix=f"{name}.", required=required)]
    if field.kind == "rows":
        known = typed if was_sent else {**flat(name, given), **typed}
        count = max(rows_in(name, known), 1)
        each["rows"] = [
            drawn(field.parts, known, wrong, prefix=f"{name}.{number}.", required=required and number == 0)
            for number in range(count)
        ]
        each["more"] = count < min(field.schema.get("maxItems", MAX_ROWS), MAX_ROWS)
    return each


def flat(name: str, value: Any) -> dict[str, str]:
    """A default as if it had been typed: `{"schedule.0.audience": "public"}`."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        pairs = enumerate(value)
    elif isinstance(value, list):
        return {name: "\n".join(map(str, value))}
    else:
        return {name: str(value).lower() if isinstance(value, bool) else str(value)}
    return {key: text for part, each in pairs for key, text in flat(f"{name}.{part}", each).items()}


def _said_of(wrong: Mapping[str, str], name: str, *, whole: bool) -> str | None:
    """What is wrong with the field `name`, or anywhere within it when it is drawn as a `whole`."""
    for place, why in wrong.items():
        if place == name or (whole and place.startswith(name + ".")):
            return why
    return None


# ---- read back -----------------------------------------------------------------------------------


def from_form(model: type[Input], typed: Mapping[str, str]) -> Input:
    """A sent form as input: empty optional fields are absent, lists come one a line, free structures as JSON."""
    return model.model_validate(_values(fields_of(model), typed))


def _values(fields: Sequence[Field], typed: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields:
        name = prefix + field.name
        text = typed.get(name, "")
        if field.kind == "flag":
            values[field.name] = name in typed
        elif field.kind == "many":
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if lines or field.required:
                values[field.name] = lines
        elif field.kind == "rows":
            rows = [_values(field.parts, typed, f"{name}.{number}.") for number in range(rows_in(name, typed))]
            values[field.name] = [row for row in rows if not is_empty(row)]
        elif field.kind == "group":
            group = _values(field.parts, typed, f"{name}.")
            if field.required or not is_empty(group):
                values[field.name] = group
        elif text.strip():
            values[field.name] = api.strict_json(text, name) if field.kind == "json" else in_utc(field, text)
        elif field.required:
            values[field.name] = ""
    return values


def is_empty(value: Any) -> bool:
    """Whether nobody typed anything here, however deep."""
    if isinstance(value, Mapping):
        return all(is_empty(part) for part in value.values())
    if isinstance(value, list):
        return all(is_empty(part) for part in value)
    return value == "" or value is False


def in_utc(field: Field, text: str) -> str:
    """What a date-and-time input sends has no zone; the form says that it asks for UTC."""
    if field.schema.get("format") == "date-time" and LOCAL_TIME.fullmatch(text):
        return text + "Z"
    return text
