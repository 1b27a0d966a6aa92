"""`python -m bench [--markdown] [name …]`: run the benchmarks, or those named, and print one table.

With `--markdown` the rows come as `docs/en/benchmarks.md` takes them, each as soon as it is known, not aligned.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from bench import Figure

COLUMNS = ("what", "measured", "unit", "target", "met", "peer", "peer measured", "ratio")
MET = {True: "yes", False: "no", None: ""}


def main(arguments: list[str]) -> None:
    names = [each for each in arguments if each != "--markdown"]
    found = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [name for name in found if name.startswith("bench_")]
    wanted = [name for name in modules if not names or name.removeprefix("bench_") in names]
    if not wanted:
        sys.exit(f"bench: no benchmark named {' or '.join(names)}")
    chosen = [importlib.import_module(f"bench.{name}") for name in wanted]
    for module in chosen:  # what is missing is said at once, not after half an hour
        getattr(module, "check_programs", lambda: None)()
    figures = (figure for module in chosen for figure in module.run())
    if "--markdown" in arguments:
        for cells in (COLUMNS, ("---",) * len(COLUMNS)):
            print("| " + " | ".join(cells) + " |")
        for figure in figures:
            print("| " + " | ".join(row(figure)) + " |", flush=True)
        return
    rows = [COLUMNS, *map(row, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, cells in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def row(figure: Figure) -> tuple[str, ...]:
    peer = number(figure.peer_value)
    measured = (figure.name, number(figure.value), figure.unit, figure.target, MET[figure.is_met])
    return (*measured, figure.peer, peer, number(figure.ratio))


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main(sys.argv[1:])
