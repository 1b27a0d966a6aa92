"""`python -m bench [name …]`: run the benchmarks, or those named, and print one table."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from bench import Figure

COLUMNS = ("what", "measured", "unit", "target", "peer", "peer measured", "ratio")


def main(names: list[str]) -> None:
    found = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [name for name in found if name.startswith("bench_")]
    wanted = [name for name in modules if not names or name.removeprefix("bench_") in names]
    if not wanted:
        sys.exit(f"bench: no benchmark named {' or '.join(names)}")
    rows = [COLUMNS]
    for name in wanted:
        rows += [row(figure) for figure in importlib.import_module(f"bench.{name}").run()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, cells in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def row(figure: Figure) -> tuple[str, ...]:
    peer = number(figure.peer_value)
    return (figure.name, number(figure.value), figure.unit, figure.target, figure.peer, peer, number(figure.ratio))


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main(sys.argv[1:])
