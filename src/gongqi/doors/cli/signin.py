"""`gongqi sign-in`: a session by password, for the command line."""

from __future__ import annotations

import sys

import click

from gongqi.doors.cli.client import Client, Problem
from gongqi.doors.cli.main import every_word, language


@click.command("sign-in")
@click.argument("handle")
def sign_in(handle: str) -> None:
    """Sign in as HANDLE and print the session's secret, for GONGQI_TOKEN.

    The password is asked for, or read as one line from standard input; never an argument, which others could see.
    """
    from gongqi.doors.cli.verbs import say_problem

    if sys.stdin.isatty():
        prompt = every_word().text("web.sign-in.password", language())
        password = click.prompt(prompt, hide_input=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    speaker = Client.from_environment(language=language())
    try:
        begun = Client(str(speaker.http.base_url), None, language=language()).sign_in(handle, password)
    except Problem as problem:
        say_problem(problem)
        raise SystemExit(1) from None
    click.echo(begun["secret"])
