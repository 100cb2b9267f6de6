"""What goes to Kaggle and what comes back from it, as values."""

from __future__ import annotations

from dataclasses import dataclass

END_STATES = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")


@dataclass(frozen=True)
class Push:
    """A notebook to save and to run. `slug` is the kernel's name, with or without `user/` before it."""

    slug: str
    title: str
    text: str  # the notebook's JSON
    datasets: tuple[str, ...] = ()  # user/slug
    kernels: tuple[str, ...] = ()  # user/slug, whose outputs become inputs
    accelerator: str = ""  # Kaggle's name of it; "": CPU only
    internet: bool = True
    timeout_s: int = 0  # Kaggle ends the session after so long; 0: Kaggle's own limit
    image: str = ""  # one of Kaggle's images; "": its newest


@dataclass(frozen=True)
class Pushed:
    """What Kaggle made of a push. `missing` are sources that it did not find: the session runs without them."""

    slug: str  # user/slug
    version: int
    kernel_id: int
    url: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class KernelStatus:
    """A session: QUEUED, RUNNING, COMPLETE, ERROR, CANCEL_REQUESTED, CANCEL_ACKNOWLEDGED or NEW_SCRIPT."""

    state: str
    failure: str = ""  # Kaggle's words, one line

    @property
    def over(self) -> bool:
        """The session has ended and its outputs are saved."""
        return self.state in END_STATES


@dataclass(frozen=True)
class OutputFile:
    """A file of a session's outputs; `name` is the other side's word, `url` opens it for a while."""

    name: str
    url: str
    size_bytes: int | None = None


@dataclass(frozen=True)
class LogEvent:
    """One event of a session's log. `index` counts from 0 in each replay: the same event has the same index."""

    index: int
    stream: str  # stdout | stderr | "" when Kaggle did not say
    text: str


@dataclass(frozen=True)
class Listed:
    """One of my notebooks or datasets, as a listing shows it."""

    slug: str  # user/slug
    title: str
