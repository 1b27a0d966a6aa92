"""Verbs as commands, derived from their input types: `gongqi room noun word --field value`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from gongqi.doors.cli import client, local
from gongqi.doors.cli.main import language
from gongqi.doors.fields import Field, fields_of, key_field
from gongqi.kernel.room import House
from gongqi.kernel.verbs import ReadVerb, Verb


def room(name: str, application: Any) -> click.Group:
    """The group of one room: a sub-group for each noun, and what works on the home without a server."""
    house: House = application.house()
    group = click.Group(name)
    for each in (*house.verbs.values(), *house.reads.values()):
        room_name, noun, word = each.name.split(":")
        if room_name != name:
            continue
        nouns = group.commands.get(noun)
        if not isinstance(nouns, click.Group):
            nouns = click.Group(noun)
            group.add_command(nouns)
        nouns.add_command(_command(house, each, word))
    for command in local.COMMANDS.get(name, ()):
        group.add_command(command)
    return group


def _command(house: House, each: Verb | ReadVerb, word: str) -> click.Command:
    words = house.words.verbs[each.name]
    params: list[click.Parameter] = [_option(field, house) for field in fields_of(each.input)]
    if is_get(each):
        params[0] = click.Argument([key_field(each.input)])
    if isinstance(each, Verb):
        for flag in ("idempotency-key", "if-match"):
            params.append(click.Option([f"--{flag}"], help=house.words.text(f"cli.{flag}", language())))
    params.append(click.Option(["--pick"], metavar="FIELD", help="print one field, such as id or items.0.id"))

    def run(**values: Any) -> None:
        _run(each, values)

    return click.Command(
        word, params=params, callback=run, help=words.help[language()], short_help=words.label[language()]
    )


def is_get(each: Verb | ReadVerb) -> bool:
    return isinstance(each, ReadVerb) and each.name.endswith(":get")


def _option(field: Field, house: House) -> click.Option:
    flag, about = "--" + field.name.replace("_", "-"), house.words.text(f"field.{field.name}", language())
    about = about if house.words.has(f"field.{field.name}") else ""
    if field.kind == "flag":
        return click.Option([f"{flag}/--no-{flag[2:]}", field.name], default=None, help=about)
    return click.Option(
        [flag, field.name], type=_type(field), multiple=field.kind == "many", required=field.required, help=about
    )


def _type(field: Field) -> Any:
    if field.kind in ("group", "rows", "json"):
        return Structure()
    if field.kind == "text" and "enum" in field.schema:
        return click.Choice([str(each) for each in field.schema["enum"]])
    return {"integer": int, "number": float}.get(field.schema["type"], str)


class Structure(click.ParamType):
    """A value with structure: JSON, or `@file` holding JSON."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(Path(value[1:]).read_bytes() if value.startswith("@") else value)
        except (orjson.JSONDecodeError, OSError) as error:
            self.fail(str(error), param, ctx)


def _run(each: Verb | ReadVerb, values: dict[str, Any]) -> None:
    key, match, pick = (values.pop(name, None) for name in ("idempotency_key", "if_match", "pick"))
    if pick and pick.partition(".")[0] not in each.output.model_fields:  # asked before the verb acts, not after
        raise click.UsageError(f"--pick {pick}: choose from {', '.join(each.output.model_fields)}")
    input = {name: value for name, value in values.items() if value is not None and value != ()}
    speaker = client.Client.from_environment(language=language())
    try:
        if isinstance(each, Verb):
            answer = speaker.verb(each.name, key=key, if_match=match, **input)
        elif is_get(each):
            answer = speaker.read(each.name, input.pop(key_field(each.input)), **input)
        else:
            answer = speaker.read(each.name, **input)
    except client.Problem as problem:
        say_problem(problem)
        raise SystemExit(1) from None
    click.echo(_picked(answer, pick) if pick else orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def _picked(answer: Any, path: str) -> str:
    """One field by its dotted path: text as it is, for a shell to keep, the rest as JSON. Absent, it exits with 1."""
    try:
        for step in path.split("."):
            answer = answer[int(step) if isinstance(answer, list) else step]
    except (LookupError, TypeError, ValueError):
        raise SystemExit(1) from None
    return answer if isinstance(answer, str) else orjson.dumps(answer).decode()


def say_problem(problem: client.Problem) -> None:
    document = problem.document
    click.echo(f"gongqi: {document.get('detail')} {document.get('remedy')} [{problem.code}]", err=True)
