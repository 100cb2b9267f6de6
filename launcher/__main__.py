"""`python -m launcher` and the console script. `--version` is answered before anything is imported."""

from __future__ import annotations

import sys


def main() -> None:
    if sys.argv[1:] in (["--version"], ["-V"], ["version"]):
        from launcher import __version__

        print(f"launcher {__version__}")
        return
    from launcher.cli.main import main as cli

    sys.exit(cli())


if __name__ == "__main__":
    main()
