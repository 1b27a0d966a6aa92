"""Verbs as commands, derived from their input types: `gongqi room noun word --field value`."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Annotated, Any

import click
import orjson
from pydantic import SecretStr

from gongqi.doors.cli import client, local
from gongqi.doors.cli.main import language
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
    params = [_option(name, field) for name, field in each.input.model_fields.items()]
    by_key = isinstance(each, ReadVerb) and each.name.endswith(":get")
    if by_key:
        first = next(iter(each.input.model_fields))
        params[0] = click.Argument([first])
    if isinstance(each, Verb):
        params.append(click.Option(["--idempotency-key"], help="repeat safely with the same key"))
        params.append(click.Option(["--if-match"], help='act only on this version, such as "v3"'))
    params.append(click.Option(["--pick"], metavar="FIELD", help="print one field, such as id or items.0.id"))

    def run(**values: Any) -> None:
        _run(each, values)

    return click.Command(word, params=params, callback=run, help=words.help[language()], short_help=words.label[language()])


def _option(name: str, field: Any) -> click.Parameter:
    flag = "--" + name.replace("_", "-")
    kind, many = _kind(field.annotation)
    if kind is bool:
        return click.Option([f"{flag}/--no-{name.replace('_', '-')}", name], default=None)
    return click.Option([flag, name], type=kind, multiple=many, required=field.is_required(), default=None, show_default=False)


def _kind(annotation: Any) -> tuple[Any, bool]:
    arguments = [each for each in typing.get_args(annotation) if each is not type(None)]
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType) and len(arguments) == 1:
        return _kind(arguments[0])
    if origin is typing.Literal:
        return click.Choice([str(each) for each in arguments]), False
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (list, tuple) and arguments and _kind(arguments[0]) == (str, False):
        return str, True
    if annotation in (bool, int, str):
        return annotation, False
    if annotation is SecretStr:
        return str, False
    return Structure(), False


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
        elif each.name.endswith(":get"):
            answer = speaker.read(each.name, input[next(iter(each.input.model_fields))])
        else:
            answer = speaker.read(each.name, **input)
    except client.Problem as problem:
        say_problem(problem)
        raise SystemExit(1) from None
    click.echo(_picked(answer, pick) if pick else orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def _picked(answer: Any, path: str) -> str:
    """One field by its dotted path: text as it is, for a shell to keep, the rest as JSON. Exit 1 when it is not there."""
    try:
        for step in path.split("."):
            answer = answer[int(step) if isinstance(answer, list) else step]
    except (LookupError, TypeError, ValueError):
        raise SystemExit(1) from None
    return answer if isinstance(answer, str) else orjson.dumps(answer).decode()


def say_problem(problem: client.Problem) -> None:
    document = problem.document
    click.echo(f"gongqi: {document.get('detail')} {document.get('remedy')} [{problem.code}]", err=True)


