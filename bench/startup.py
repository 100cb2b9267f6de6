"""How long `launcher` takes to start, as ratios: to a bare Python, and to a bare lazy Click program.

    python bench/startup.py [ROUNDS]

The commands take turns, in an order that rotates, so that a busy machine slows all of them alike; medians of
wall time and of CPU time. Trust the ratios.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A lazy group of 30 commands and nothing else: what any Click program costs.
BARE_CLICK = """
import click
COMMANDS = {"command%d" % i: "What command %d does, in a line of usual length." % i for i in range(30)}
class Lazy(click.Group):
    def list_commands(self, ctx):
        return list(COMMANDS)
    def get_command(self, ctx, name):
        return click.Command(name, callback=lambda: None) if name in COMMANDS else None
    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
@click.group(cls=Lazy)
@click.option("--json", is_flag=True)
def cli(json):
    "A lazy program."
if __name__ == "__main__":
    cli()
"""
LIMITS = {"--version": ("python", 2.0), "--help": ("click --help", 1.3), "ps": ("click command", 1.6)}


def main(rounds: int) -> int:
    """Measure, print, and say whether the limits hold."""
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(Path(folder))
        times = measure(commands, rounds, Path(folder))
    wall = {name: statistics.median(w for w, _ in found) for name, found in times.items()}
    cpu = {name: statistics.median(c for _, c in found) for name, found in times.items()}
    print(f"{rounds} rounds, medians          wall      cpu   wall/python   wall/click")
    for name in commands:
        ratios = wall[name] / wall["python"], wall[name] / wall["click --help"]
        spent = f"{wall[name] * 1e3:6.1f} ms {cpu[name] * 1e3:6.1f} ms"
        print(f"{name:24} {spent} {ratios[0]:9.2f} {ratios[1]:12.2f}")
    return _judge(wall)


def measure(
    commands: dict[str, list[str]], rounds: int, folder: Path
) -> dict[str, list[tuple[float, float]]]:
    """(wall, cpu) seconds of every command in every round; the first round warms up and does not count."""
    # As a user has it: compiled modules, and folders where the platform wants them.
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("LAUNCHER_", "PYTHONDONTWRITE"))}
    environ |= {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config")}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    names = list(commands)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            before, began = _cpu(), time.perf_counter()
            subprocess.run(commands[name], env=environ, stdout=subprocess.DEVNULL, check=True)
            if number:
                times[name].append((time.perf_counter() - began, _cpu() - before))
    return times


def _commands(folder: Path) -> dict[str, list[str]]:
    script = folder / "lazy.py"
    script.write_text(BARE_CLICK)
    launcher = str(Path(sys.executable).with_name("launcher"))
    # The console script of an installed program, so that both pay for the same start.
    return {
        "python": [sys.executable, "-c", "pass"],
        "click --help": [sys.executable, str(script), "--help"],
        "click command": [sys.executable, str(script), "command7"],
        "--version": [launcher, "--version"],
        "--help": [launcher, "--help"],
        "ps": [launcher, "ps"],
    }


def _judge(wall: dict[str, float]) -> int:
    failed = 0
    for name, (base, limit) in LIMITS.items():
        ratio = wall[name] / wall[base]
        failed += ratio > limit
        print(f"{name:10} {ratio:5.2f} x {base:14} (limit {limit}) {'ok' if ratio <= limit else 'TOO SLOW'}")
    return 1 if failed else 0


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 21))
