"""Free hours and balances of the accounts that are known here, each asked by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.errors import AuthError, LauncherError
from launcher.runner.context import Context
from launcher.target import Quota
from launcher.targets.registry import target_of

SHORT_FORMS = ("kaggle", "colab")  # asked without being named


@dataclass(frozen=True)
class Told:
    """What one target said: quotas (none: it counts nothing), or why it said nothing."""

    target: str
    quotas: Sequence[Quota] = ()
    error: LauncherError | None = None


def quota(ctx: Context, names: Sequence[str]) -> list[Told]:
    """The named targets; else the configured ones that count anything, and the free platforms signed in to."""
    if names:
        return [_asked(ctx, name) for name in names]
    configured = list(ctx.config.targets())
    told = [_asked(ctx, name) for name in configured]
    short = [_asked(ctx, name) for name in SHORT_FORMS if name not in configured]
    known = [one for one in (*told, *short) if one.quotas or (one.error and one not in short)]
    known += [one for one in short if one.error and not isinstance(one.error, AuthError)]
    return known or short  # nobody is signed in anywhere: how to is the answer


def exit_code(told: Sequence[Told]) -> int:
    """0 if anybody answered: one account that is not signed in is no error of the others."""
    errors = [one.error.exit_code for one in told if one.error]
    return errors[0] if errors and len(errors) == len(told) else 0


def _asked(ctx: Context, name: str) -> Told:
    try:
        return Told(name, target_of(ctx, name).quota())
    except LauncherError as e:
        return Told(name, error=e)
