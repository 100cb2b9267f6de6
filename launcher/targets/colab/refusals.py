"""Why Colab gives no runtime, each as one line with what to do (pure)."""

from __future__ import annotations

from launcher.errors import AuthError, CapacityError, LauncherError, Refused, RemoteError, Unreachable
from launcher.targets.colab.told import Account, Wanted
from launcher.targets.colab.wire import Answer, said, short

DENIED, EXCEEDED, SUCCESS, DENYLISTED = 1, 2, 4, 5  # `outcome` beside a runtime, or instead of one
SIGN_IN = "sign in again: `launcher check colab` says how"


def of_outcome(outcome: object, wanted: Wanted) -> LauncherError | None:
    """None when a runtime was given."""
    if outcome in (None, 0, SUCCESS):
        return None
    if outcome == DENIED:
        what = f"a {wanted.accelerator} machine" if wanted.accelerator else "a machine"
        return CapacityError(
            f"Colab has no {what[2:]} for this account now",
            "try later, take another accelerator, or use another target: `launcher quota colab` shows what is left",
        )
    if outcome == EXCEEDED:
        return CapacityError(
            "the account's free use of Colab is spent for now",
            "`launcher quota colab` says when it comes back; compute units or another target help at once",
        )
    if outcome == DENYLISTED:
        return AuthError(
            "Colab has blocked this account", "see https://research.google.com/colaboratory/faq.html"
        )
    return RemoteError(
        f"Colab gave no runtime, for a reason that is not known here (outcome {short(outcome, 20)})"
    )


def too_many() -> CapacityError:
    """412: too many runtimes, or no capacity; Colab does not tell which."""
    return CapacityError(
        "Colab gives this account no further runtime now",
        "end one (`launcher release`, or Runtime > Manage sessions at https://colab.research.google.com), or try later",
    )


def not_entitled(wanted: Wanted, told: str, account: Account) -> Refused:
    """400: something that this account cannot ask for."""
    parts = [f"accelerator {wanted.accelerator}"] if wanted.accelerator else []
    parts += ["high memory"] if wanted.high_memory else []
    parts += [f"version {wanted.version}"] if wanted.version else []
    may = ", ".join(account.accelerators)
    if wanted.accelerator and may and wanted.accelerator not in account.accelerators:
        hint = f"this account may ask for {may}"
    else:
        hint = "leave out `memory: high` and `version`, or choose others, in targets.yaml"
    return Refused(
        f"this account cannot have a Colab runtime with {', '.join(parts) or 'these settings'} ({told})", hint
    )


def of_status(answer: Answer, doing: str) -> LauncherError | None:
    """What an answer's status means for any call; None for a good one."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if status == 401:
        return AuthError("Colab does not accept your sign-in: it has expired or is not valid", SIGN_IN)
    if status == 403:
        return AuthError(f"this sign-in may not use Colab for {doing} ({said(answer)})", SIGN_IN)
    if status == 429:
        return CapacityError(f"Colab was asked too often while {doing}", "wait some minutes, then try again")
    if status >= 500:
        return Unreachable(f"Colab cannot answer now while {doing} ({said(answer)})", "try again later")
    return RemoteError(f"Colab refused while {doing} ({said(answer)})")
