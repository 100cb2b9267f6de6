"""One by hand, until stdin ends: `python -m tests.emulators.colab [--speed 360]` prints what to export."""

from __future__ import annotations

import argparse
import shlex
import sys

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.colab", description=__doc__)
    parser.add_argument("--speed", type=float, default=1.0, help="Colab's seconds in one of ours")
    with Colab(Settings(speed=parser.parse_args().speed)) as colab:
        for name, value in colab.environment.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
