"""`gongqi`, the command. The composition root is handed down and loaded only by commands that need a kernel."""

from __future__ import annotations

from types import ModuleType


class Application:
    """Loads `gongqi.app` at first use: `gongqi --help` must not wait for a database library."""

    def __getattr__(self, name: str) -> object:
        from gongqi import app

        return getattr(app, name)


def main() -> None:
    from gongqi.doors.cli.main import cli

    application: ModuleType | Application = Application()
    cli(prog_name="gongqi", obj=application)


if __name__ == "__main__":
    main()
