"""`python -m tests.emulators.kaggle [TIME_SCALE]`: an emulated Kaggle to try by hand, until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys

from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.settings import Settings

with Kaggle(Settings(time_scale=float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)) as kaggle:
    for name, value in {**kaggle.environment, **kaggle.official_environment}.items():
        print(f"export {name}='{value}'", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not leave things behind
