"""The target `colab`: a runtime is asked for, given one segment, followed, and handed back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher import published
from launcher.agent import records
from launcher.config import Config, TargetConfig
from launcher.errors import AuthError, RemoteError
from launcher.run import RUN_ID, Resource, Segment, State, Status
from launcher.target import Finding, Limits, Need, Offer, Quota, Range, Step, Submission
from launcher.targets.colab import api as colab
from launcher.targets.colab import auth, cells, offer, outcomes
from launcher.targets.colab.files import RuntimeFiles
from launcher.targets.colab.folder import PAYLOADS, ColabFolder, Spot, note
from launcher.targets.colab.kernel import Kernel
from launcher.targets.colab.place import Placing, forget, given_late, hand_back, place, runtime_resource
from launcher.targets.colab.refusals import SIGN_IN
from launcher.targets.colab.runtime import Reclaimed, RuntimeLine
from launcher.targets.later import Later


class ColabTarget:
    """One account; `accelerator`, `memory` and `version` of the options say which runtime."""

    limits = Limits(own_image=False, survives_laptop=False, way_in=False, max_time_s=12 * 3600.0)

    def __init__(self, config: Config, target: TargetConfig) -> None:
        self.name, self.config = target.name, config
        self._options = target.options
        url = config.base_url("LAUNCHER_COLAB_URL", colab.URL)
        self._api = colab.ColabAPI(url, auth.token_source(config, target.options))
        self._known: Later | None = None

    def warm(self) -> None:
        """Ask what the account may have while the caller packs."""
        if self._known is None:
            self._known = Later(self._api.account)

    def check(self) -> Iterator[Finding]:
        """Who we are there, what the account may have and has left."""
        try:
            account = self._account()
        except AuthError as e:
            yield Finding("account", False, e.message, self._how_to_sign_in(e))
            return
        yield Finding("account", True, f"may ask for {', '.join(account.accelerators) or 'CPU runtimes'}")
        left = not offer.spent(account)
        units = f"{account.paid_units:.1f} paid, {account.free_units or 0:.1f} free compute units left"
        yield Finding("quota", left, units, "" if left else f"refilled at {account.free_refill_at}")
        yield Finding("runtimes", True, f"{account.runtimes} in use")

    def offers(self, need: Need) -> list[Offer]:
        """What this account would be asked for, or why that would not do. Asks for nothing."""
        return [offer.offer(self.name, need, self._account(), self._options)]

    def submit(self, submission: Submission) -> Iterator[Step]:
        """Repeatable: the runtime of an earlier try is adopted, and a living agent above all."""
        segment = submission.segment
        wanted = self._recorded(segment) or offer.wanted(
            outcomes.notebook_id(segment.run_id, segment.number),
            submission.spec,
            self._account(),
            self._options,
        )
        yield from place(Placing(self._api, submission, wanted, self._scratch))

    def lacking(self, data: Sequence[Any]) -> Mapping[str, int]:
        """A fresh runtime has nothing; an https source comes from its own address."""
        return {source.key: int(source.size_bytes or 0) for source in data if source.digest}

    def status(self, segment: Segment) -> Status:
        """One look. Preempted is only said when Colab lists the runtime no more, lost when its agent is dead."""
        line = self._line(segment)
        if line is None:
            return outcomes.gone(segment.handed_over)
        try:
            if found := self._exit(line, segment):
                return found
            if not segment.handed_over or self._lives(line, segment):
                return Status(State.RUNNING if segment.handed_over else State.PENDING)
            return self._exit(line, segment) or Status(State.LOST, "its agent died and left no exit record")
        except Reclaimed:
            return outcomes.gone(segment.handed_over)
        finally:
            line.close()

    @contextlib.contextmanager
    def open(self, segment: Segment) -> Iterator[ColabFolder]:
        """The segment's folder; one on a runtime that was taken back is empty."""
        endpoint = str(segment.handle.get("endpoint") or "")
        folder = ColabFolder(self._line(segment), _spot(segment), lambda: self._api.keep_alive(endpoint))
        try:
            yield folder
        finally:
            folder.close()

    def cancel(self, segment: Segment, grace_s: float) -> None:
        """Leave the agent a note; nothing to stop where the runtime is gone."""
        with self.open(segment) as folder, contextlib.suppress(Reclaimed):
            folder.put(records.STOP, note(grace_s))

    def release(self, segment: Segment) -> Iterator[Step]:
        """Hand the runtime back; done when Colab lists it no more."""
        endpoint = segment.handle.get("endpoint")
        if not hand_back(self._api, segment):
            yield from given_late(self._api, segment)
        forget(self._scratch, segment)
        if endpoint and self._api.refresh(endpoint) is not None:
            raise RemoteError(f"Colab still lists {endpoint}", "try again in a minute")
        resource = runtime_resource(segment.run_id, segment.number)
        yield Step(segment.state, "hand back", str(endpoint or "nothing was there"), 1, 1, released=resource)

    def owned(self) -> list[Resource]:
        """Every runtime of the account where a run's payload lies."""
        found = []
        for runtime in self._api.assignments():
            line = self._line_to(runtime)
            try:
                files = RuntimeFiles(line)
                for run_id in (one.name for one in files.listing(PAYLOADS) if RUN_ID.match(one.name)):
                    numbers = [one.name for one in files.listing(f"{PAYLOADS}/{run_id}")]
                    found += [runtime_resource(run_id, int(name)) for name in numbers if name.isdigit()]
            except Reclaimed:
                continue
            finally:
                line.close()
        return found

    def quota(self) -> list[Quota]:
        return self._api.usage(self.name)

    @property
    def _scratch(self) -> Path:
        return self.config.home / "payloads"

    def _account(self) -> colab.Account:
        """Asked once a command."""
        self.warm()
        assert self._known is not None
        found: colab.Account = self._known.result()
        return found

    def _how_to_sign_in(self, error: AuthError) -> str:
        """Here it is said in full, as other commands point to this one."""
        if error.hint != SIGN_IN:
            return error.hint
        anew = f"set {auth.VARIABLE} anew (a token is good for an hour), or "
        return (anew if self.config.variable(auth.VARIABLE) else "") + f"type: {auth.LOGIN}"

    def _recorded(self, segment: Segment) -> colab.Wanted | None:
        """What an earlier try of this segment asked for."""
        told = segment.handle.get("wanted")
        return colab.Wanted(str(segment.handle["notebook"]), **told) if told else None

    def _line(self, segment: Segment) -> RuntimeLine | None:
        """The way to the segment's runtime; None when Colab lists it no more."""
        endpoint = segment.handle.get("endpoint")
        runtime = self._api.refresh(str(endpoint)) if endpoint else None
        return self._line_to(runtime) if runtime else None

    def _line_to(self, runtime: colab.Runtime) -> RuntimeLine:
        return RuntimeLine(runtime, lambda: self._api.refresh(runtime.endpoint))

    def _exit(self, line: RuntimeLine, segment: Segment) -> Status | None:
        path = f"{_spot(segment).folder}/{records.EXIT}"
        data = b"".join(chunk for _, chunk in RuntimeFiles(line).read([Range(path)]))
        return outcomes.ended(published.exit_record(data, segment.run_id, segment.number)) if data else None

    def _lives(self, line: RuntimeLine, segment: Segment) -> bool:
        """By the lock that the agent holds; a busy kernel watches it."""
        spot = _spot(segment)
        with Kernel(line, spot.kernel) as kernel:
            if kernel.busy(1.0):
                return True
            said: list[str] = []
            ending = kernel.execute(
                cells.looking(spot.payload, spot.folder), lambda one: said.append(one.text)
            )
        if wrong := outcomes.failed("a look at the agent", ending):
            raise wrong
        return cells.lives("".join(said))


def _spot(segment: Segment) -> Spot:
    return Spot(segment.run_id, segment.number)
