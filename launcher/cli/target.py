"""target add, ls, rm."""

from __future__ import annotations

import os

import click

from launcher.cli.session import Session
from launcher.cli.verb import verb, with_session


@click.group("target")
def target_command() -> None:
    """Add, list and remove targets: named ways to get a place."""


@verb("add")
@click.argument("name")
@click.argument("address")
@click.option("--host-key", metavar="SHA256:…", help="The server's fingerprint, known beforehand.")
@click.option("--key", metavar="FILE", help="The private key to log in with.")
@click.option("--docker", type=click.Choice(["auto", "always", "never"]), help="Default: auto.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting of its type.")
@click.option("--replace", is_flag=True, help="Instead of the one that has this name.")
@with_session
def add_command(
    session: Session,
    name: str,
    address: str,
    settings: tuple[str, ...],
    replace: bool,
    **options: str | None,
) -> None:
    """Call ADDRESS (ssh://user@host:port, local, verda, kaggle, colab) NAME."""
    from launcher.targets.registry import HAND

    if name in HAND:
        raise click.UsageError(f"{name} is what notebooks opened by hand are called: choose another name")
    found = session.config.resolve_target(address)
    given = {key: value for key, value in options.items() if value is not None} | _set(settings)
    target = session.config.add_target(name, {"type": found.type, **found.options, **given}, replace)
    session.tell(_value(target), lambda: f"{target.name} is {_address(target)}")
    session.next([f"launcher check {name}"])


@verb("ls")
@with_session
def ls_command(session: Session) -> None:
    """List the targets of targets.yaml."""
    from launcher.render.table import table

    found = list(session.config.targets().values())
    rows = [(target.name, target.type, _address(target)) for target in found]
    session.tell(
        {"targets": [_value(target) for target in found]},
        lambda: table(["NAME", "TYPE", "WHERE"], rows) if rows else "",
    )
    if not rows:
        session.next(["launcher target add NAME ssh://user@host"])


@verb("rm")
@click.argument("name")
@with_session
def rm_command(session: Session, name: str) -> None:
    """Remove a target from targets.yaml; what runs there goes on."""
    session.config.remove_target(name)
    session.tell({"removed": name}, lambda: f"removed {name}")


def _set(settings: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in settings]
    for text, (key, equals, value) in zip(settings, pairs, strict=True):
        if not (key and equals and value):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    given = {key: value for key, _, value in pairs}
    if "client" in given and not given["client"].startswith("~"):
        given["client"] = os.path.abspath(given["client"])
    return given


def _value(target: object) -> dict[str, object]:
    return {"name": target.name, "type": target.type, **target.options}  # type: ignore[attr-defined]


def _address(target: object) -> str:
    options = dict(target.options)  # type: ignore[attr-defined]
    if "host" not in options:
        return " ".join(f"{key}={value}" for key, value in options.items())
    user = f"{options['user']}@" if "user" in options else ""
    port = f":{options['port']}" if "port" in options else ""
    rest = {key: value for key, value in options.items() if key not in ("user", "host", "port")}
    return " ".join([f"ssh://{user}{options['host']}{port}", *(f"{k}={v}" for k, v in rest.items())])


for one in (add_command, ls_command, rm_command):
    target_command.add_command(one)
