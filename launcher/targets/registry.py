"""A target's name to the target; each kind is imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.config import TargetConfig
from launcher.errors import Refused
from launcher.runner.context import Context, Question
from launcher.target import Target

if TYPE_CHECKING:
    from launcher.hosts.sshconfig import SSHAddress

LATER = {"verda": "DataCrunch (Verda)"}
HAND = ("kaggle-notebook", "colab-notebook")  # only in the ledger: `launcher notebook` makes such segments


def target_of(ctx: Context, name: str) -> Target:
    """The target of this name or short form. Raises SpecError for unknown names, Refused for doors to come."""
    if name in HAND:
        from launcher.targets.hand import HandTarget

        return HandTarget(ctx.config, name)
    config = ctx.config.resolve_target(name)
    if config.type in LATER:
        raise Refused(
            f"{name}: {LATER[config.type]} is not in this version", "use --on local or --on ssh://user@host"
        )
    if config.type == "kaggle":
        from launcher.targets.kaggle.target import KaggleTarget

        return KaggleTarget(ctx.config, config)
    if config.type == "colab":
        from launcher.targets.colab.target import ColabTarget

        return ColabTarget(ctx.config, config)
    if config.type == "local":
        return _local(ctx, config)
    return _ssh(ctx, config)


def _local(ctx: Context, config: TargetConfig) -> Target:
    from launcher.hosts.local import LocalHost
    from launcher.targets.machine import MachineTarget

    root = config.options.get("root")
    return MachineTarget(ctx.config, config, LocalHost(Path(root) if root else None))


def _ssh(ctx: Context, config: TargetConfig) -> Target:
    from launcher.hosts.ssh import SSHHost
    from launcher.targets.machine import MachineTarget

    def confirm(fingerprint: str) -> bool:
        text = f"{config.name} shows the unknown host key {fingerprint}. Trust it?"
        return ctx.ask(Question("host-key", text, f"launcher target add … --host-key {fingerprint}"))

    return MachineTarget(
        ctx.config, config, SSHHost(_address(config), confirm, config.name, config.options.get("root", ""))
    )


def _address(config: TargetConfig) -> SSHAddress:
    from launcher.hosts.ssh import SSHAddress

    options: dict[str, Any] = {key: config.options.get(key) for key in ("user", "port", "key", "host_key")}
    return SSHAddress(host=str(config.options["host"]), **options)
