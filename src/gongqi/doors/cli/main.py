"""The command line's table of contents. Everything behind an entry is imported when that entry is used.

Verbs come derived: `gongqi hub release publish --release rel_…` is `POST /api/v1/hub/release/publish` on the server
that `GONGQI_URL` names. Commands that work on the home itself (`up`, `serve`, `gateway`, `migrate`, `ledger check`,
`blobs check`, `verify`) need no server; `verify` needs not even a home.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, no more of it for this user, none for this process
MAX_PATH = 200  # characters of a path that are repeated

# command → (where it is, 中文, English). A test holds the room names against the house.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("gongqi.doors.cli.server:up", "启动基金会；首次启动时走完全链", "start the foundation; walk the chain once"),
    "serve": ("gongqi.doors.cli.server:serve", "只启动服务", "start the server and nothing else"),
    "gateway": (
        "gongqi.doors.cli.server:gateway",
        "另起进程，只服务模型调用",
        "serve calls of models in a process of their own",
    ),
    "tour": ("gongqi.doors.cli.tour:tour", "以新的名字再走一遍全链", "walk the whole chain again under new names"),
    "migrate": ("gongqi.doors.cli.server:migrate", "升级数据库结构", "bring the database schema up to date"),
    "token": ("gongqi.doors.cli.server:token", "显示运营者令牌所在的文件", "say where the operator's token is"),
    "sign-in": (
        "gongqi.doors.cli.signin:sign_in",
        "以密码登录，输出会话密文",
        "sign in by password; print the session's secret",
    ),
    "push": ("gongqi.doors.cli.push:push", "上传一个目录为新版本", "upload a folder as a new revision"),
    "bundle": ("gongqi.doors.cli.verify:bundle", "取得发布的离线包", "fetch the offline bundle of a release"),
    "verify": (
        "gongqi.doors.cli.verify:verify",
        "离线核验发布包或证据日志",
        "check a bundle or the evidence log offline",
    ),
    "blobs": ("gongqi.doors.cli.local:blobs", "核对存储的内容", "check the stored bytes"),
}
ROOMS: dict[str, tuple[str, str]] = {
    "members": ("成员、角色与令牌", "people, organisations, roles, tokens"),
    "evidence": ("证据日志", "the evidence log"),
    "ledger": ("账本", "the ledger"),
    "hub": ("资产、版本与发布", "assets, revisions, releases"),
    "serving": ("部署与调用", "deployments and calls"),
    "compliance": ("许可与开放度", "licences and openness"),
    "ethics": ("评测与审查", "evaluations and reviews"),
    "upstream": ("捐赠与专利承诺", "donations and patent pledges"),
    "standards": ("关卡规则", "the rules of the gates"),
    "scenarios": ("协议与数据回流", "agreements and the return of data"),
    "billing": ("模型的价目", "prices of models"),
    "credits": ("分成规则与分账", "split policies and splits"),
    "packs": ("各地的法律规则", "the law of places"),
}


def language() -> str:
    """`GONGQI_LANG`, else the locale of the terminal."""
    chosen = os.environ.get("GONGQI_LANG") or os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return "zh" if chosen.lower().startswith("zh") else "en"


class Contents(click.Group):
    """A group whose members are imported only when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *ROOMS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            return getattr(importlib.import_module(module), name)
        if cmd_name in ROOMS:
            return importlib.import_module("gongqi.doors.cli.verbs").room(cmd_name, ctx.obj)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list from the table above, without importing what it lists."""
        zh = language() == "zh"
        with formatter.section("命令" if zh else "Commands"):
            formatter.write_dl([(name, row[1] if zh else row[2]) for name, row in COMMANDS.items()])
        with formatter.section("各室的操作" if zh else "Verbs by room"):
            formatter.write_dl([(name, row[0] if zh else row[1]) for name, row in ROOMS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        from gongqi.kernel.errors import GongqiError

        try:
            return super().invoke(ctx)
        except GongqiError as error:
            say_error(error)
            sys.exit(1)
        except OSError as error:
            say_error(known(error))
            sys.exit(1)


def every_word() -> Any:
    """All words of the house, without building it: an error must be sayable before anything else works."""
    from pathlib import Path

    from gongqi.kernel.words import Words

    words = Words()
    for path in sorted(Path(__file__).parents[2].glob("**/words.toml")):
        words.load(path)
    return words


def known(error: OSError) -> Any:
    """What the machine would not do with a file, in our words. What is not about a file goes on as it is."""
    from gongqi.kernel.errors import Refused, Unavailable

    if error.errno in FULL:
        return Unavailable("kernel.disk-full", detail=str(error))
    if error.filename is None:
        raise error
    why = f"cli.path.{errno.errorcode.get(error.errno or 0, '')}"
    words = every_word()
    reason = words.text(why, language()) if words.has(why) else error.strerror
    return Refused("cli.path-unusable", path=os.fsdecode(error.filename)[:MAX_PATH], reason=reason)


def say_error(error: Any) -> None:
    """One line on standard error: what happened, what to do, the code."""
    _status, message, remedy = every_word().error(error, language())
    click.echo(f"gongqi: {message} {remedy} [{error.code}]", err=True)


@click.command(cls=Contents, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gongqi", prog_name="gongqi")
def cli() -> None:
    """Gongqi 公器: the operating platform of an AI-native open-source foundation.

    \b
    GONGQI_HOME          everything the foundation keeps (default ./var)
    GONGQI_PORT          where it listens on this machine (default 8420)
    GONGQI_DATABASE_URL  sqlite:///path or postgresql://… (default: in the home)
    GONGQI_URL, GONGQI_TOKEN  which server the verbs speak to, and as whom
    """
