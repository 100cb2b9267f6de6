"""`python -m tests.emulators.verda [TIME_SCALE] [--real]`: an emulated Verda to try by hand, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal

from tests.emulators.verda.emulator import Verda
from tests.emulators.verda.settings import Settings

parser = argparse.ArgumentParser(prog="python -m tests.emulators.verda")
parser.add_argument(
    "time_scale", nargs="?", type=float, default=1.0, help="how much faster than real its time runs"
)
parser.add_argument("--real", action="store_true", help="machines with an sshd and a Docker Engine")
chosen = parser.parse_args()

with Verda(Settings("real" if chosen.real else "light", chosen.time_scale)) as verda:
    for name, value in verda.environment.items():
        print(f"export {name}='{value}'", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not leave things behind
