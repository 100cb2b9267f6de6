"""The ladder of targets: the first that fits is tried; a refusal, no room or no account moves on to the next."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from launcher.errors import AuthError, CapacityError, Refused, TargetError
from launcher.events import Event, Notice
from launcher.runner.context import Context
from launcher.target import Need, Offer, Target
from launcher.targets.registry import target_of

MOVES_ON = (Refused, CapacityError, AuthError)  # Unreachable does not: what was asked for may have happened


@dataclass(frozen=True)
class Rung:
    """One target of the ladder, or why it cannot even be asked."""

    name: str
    target: Target | None
    refused: Refused | None = None

    def offer(self, need: Need) -> tuple[Target, Offer]:
        """Raises Refused or TargetError."""
        if self.target is None:
            raise self.refused or Refused(f"{self.name} is not in this version")
        return self.target, self.target.offers(need)[0]


class Ladder:
    """The targets that are left, in the user's order; each is asked when its turn comes."""

    def __init__(self, ctx: Context, names: Sequence[str]) -> None:
        self._ctx = ctx
        self._left = [_rung(ctx, name) for name in names]
        self._why: list[str] = []

    def warm(self) -> None:
        """The first connects while the caller packs."""
        if self._left and self._left[0].target:
            self._left[0].target.warm()

    def first(self, need: Need) -> Generator[Event, None, Target]:
        """The first that fits. Refused with all reasons when none does; one target alone says its own."""
        if len(self._left) == 1:
            target, offer = self._left.pop().offer(need)
            if not offer.fits:
                raise Refused(f"{target.name}: {offer.why_not}")
            yield from about(self._ctx, target, offer)
            return target
        found = yield from self.next(need)
        if found is None:
            raise Refused("; ".join(self._why))
        return found

    def next(self, need: Need) -> Generator[Event, None, Target | None]:
        """The next that fits, or None; says which were passed over and why."""
        skipped: list[str] = []
        while self._left:
            rung = self._left.pop(0)
            try:
                target, offer = rung.offer(need)
                why = "" if offer.fits else offer.why_not
            except (TargetError, Refused) as e:
                why = e.message
            if not why:
                for line in skipped:
                    yield Notice(f"skipped {line}", "warning")
                yield from about(self._ctx, target, offer)
                return target
            skipped.append(f"{rung.name}: {why}")
        self._why += skipped
        return None


def about(ctx: Context, target: Target, offer: Offer) -> Iterator[Event]:
    """What must be known of a place that is no machine; its terms when a run first goes there."""
    limits = target.limits
    if not limits.survives_laptop:
        said = (
            f"{target.name} needs this laptop: it ends what nobody follows; `launcher attach` in time goes on"
        )
        yield Notice(said, "warning")
    if not limits.live_checkpoints:
        yield Notice(f"{target.name}: checkpoints come home when its session has ended, however it ends")
    if not limits.way_in and not _known(ctx, target.name):
        for note in offer.notes:
            yield Notice(f"{target.name}: {note}")


def _rung(ctx: Context, name: str) -> Rung:
    try:
        return Rung(name, target_of(ctx, name))
    except Refused as e:
        return Rung(name, None, e)


def _known(ctx: Context, name: str) -> bool:
    return any(s.target == name and s.handed_over for run in ctx.ledger.runs() for s in run.segments)
