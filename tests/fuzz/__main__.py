"""`python -m tests.fuzz [NAME …] [--seconds N]`: look for bytes that break a reader, led by coverage (atheris, libFuzzer).

Each target has the time given and a process of its own, so that what hangs or exhausts memory is found too. What was
found is written to `tests/fuzz/crashers/NAME/` and makes the command fail; interesting inputs are kept in
`var/fuzz/NAME` between runs.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import click

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / "var" / "fuzz"
SLOWEST_SECONDS = 20  # one input; the suite's limits let a child have sixty
MEMORY_MIB = 2048  # as an inspecting child has


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seconds", default=60, help="For each target.")
@click.option("--within", is_flag=True, hidden=True, help="Fuzz the one target here.")
def main(names: tuple[str, ...], seconds: int, within: bool) -> None:
    if within:
        fuzz(names[0], seconds)
    from tests.fuzz.targets import TARGETS

    failed = [name for name in names or TARGETS if not holds(name, seconds)]
    if failed:
        raise SystemExit(f"fuzz: bytes were found that break {', '.join(failed)}; see tests/fuzz/crashers")


def holds(name: str, seconds: int) -> bool:
    click.echo(f"fuzz: {name}, {seconds} s")
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds), "--within"]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    tail = ended.stderr.splitlines()
    summary = [line for line in tail if line.startswith(("Done ", "stat::"))]
    click.echo("\n".join(summary or tail[-40:]))
    return ended.returncode == 0


def fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["gongqi", "zipfile", "tarfile", "yaml", "license_expression", "boolean"]):
        from tests.fuzz.targets import TARGETS
    target, corpus, found = TARGETS[name], KEPT / name, HERE / "crashers" / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    limits = (f"-max_total_time={seconds}", f"-timeout={SLOWEST_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}")
    size = f"-max_len={target.max_bytes}"
    arguments = [sys.argv[0], *limits, size, f"-artifact_prefix={found}/", "-print_final_stats=1", str(corpus)]
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
