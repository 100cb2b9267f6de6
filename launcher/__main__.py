"""`python -m launcher` and the console script."""

from __future__ import annotations


def main() -> None:
    from launcher.cli import main as cli

    cli()


if __name__ == "__main__":
    main()
