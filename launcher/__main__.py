"""`python -m launcher` and the console script. `--version` is answered before anything is imported."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    _open_closed_streams()
    if sys.argv[1:] in (["--version"], ["version"]):
        from launcher import __version__

        print(f"launcher {__version__}")
        return
    gc.set_threshold(100_000)  # what start-up makes lives to the end: looking through it takes a tenth
    from launcher.cli.main import main as cli

    code = cli()
    gc.freeze()  # and once more at the end takes a fifth
    sys.exit(code)


def _open_closed_streams() -> None:
    """Started with a closed stdout, the next file that we open would become it: the ledger, say."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


if __name__ == "__main__":
    main()
