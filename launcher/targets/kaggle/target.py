"""The target `kaggle`: a private notebook that runs the segment in a session of Kaggle's, with or without GPUs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from launcher import published
from launcher.agent import records
from launcher.config import Config, TargetConfig
from launcher.errors import AuthError, Refused, RemoteError, TargetError
from launcher.run import Resource, Segment, State, Status
from launcher.target import Finding, Limits, Need, Offer, Quota, Range, Step, Submission
from launcher.targets.kaggle import accelerators, datasets, fit, live, push
from launcher.targets.kaggle.api import URL, KaggleAPI, KernelStatus, credentials
from launcher.targets.kaggle.folder import KaggleFolder, Place
from launcher.targets.kaggle.status import Seen, judge, over
from launcher.targets.later import Later

LIMITS = Limits(own_image=False, way_in=False, live_checkpoints=False, max_time_s=push.MOST_S)
TOLD_S = 6.0  # for a session that has just begun to say its number
STOPPED_S = 60.0  # for Kaggle to stop a session
LOOK_S = 1.0


class KaggleTarget:
    """Options: accelerator, image, internet, environment, secrets (targetsfile.py)."""

    def __init__(self, config: Config, target: TargetConfig) -> None:
        self.name, self.config, self._options = target.name, config, target.options
        self.limits = replace(LIMITS, secrets=self._options.get("secrets") == "private-dataset")
        self._made: KaggleAPI | None = None
        self._warming: Later | None = None

    @property
    def api(self) -> KaggleAPI:
        """The account; AuthError when there are no credentials."""
        if self._made is None:
            url = self.config.base_url("LAUNCHER_KAGGLE_URL", URL)
            self._made = KaggleAPI(url, credentials(self.config))
        return self._made

    def warm(self) -> None:
        """Find out who we are while the caller packs; what goes wrong is raised where it is needed."""
        if self._warming is None:
            self._warming = Later(lambda: self.api.user())

    def check(self) -> Iterator[Finding]:
        """Whether the account answers, what it has left, and whether the options make sense."""
        yield Finding("account", True, f"{self._user()}, by {self.api.source()}")
        for line in self.api.ignored():
            yield Finding("credentials", True, f"passed over: {line}")
        for quota in self.quota():
            yield fit.finding(quota)
        if asked := str(self._options.get("accelerator", "")):
            try:
                yield Finding("accelerator", True, accelerators.named(asked).what)
            except Refused as e:
                yield Finding("accelerator", False, e.message, e.hint)
        yield Finding("internet", True, *fit.internet(self._options))

    def offers(self, need: Need) -> list[Offer]:
        """One free offer, or why not: the accelerator, the internet, the quota."""
        self._user()
        try:
            settings = fit.settings(need, self._options)
            quota = fit.afford(need, settings, self._left(settings))
        except Refused as e:
            why = e.message + (f"; {e.hint}" if e.hint else "")
            return [Offer(self.name, "Kaggle session", fits=False, why_not=why)]
        chosen = accelerators.KNOWN.get(settings.accelerator)
        house = settings.wheelhouse and self._has_environment(need)
        return [
            Offer(
                self.name,
                chosen.what if chosen else "no GPU",
                form="plain",
                notes=[*fit.notes(need, settings, house), *quota],
                setup_s=fit.setup_s(need, house),
            )
        ]

    def submit(self, order: Submission) -> Iterator[Step]:
        """Datasets and notebook, each adopted when it is there. Handed over as soon as Kaggle has the push."""
        yield Step(State.PROVISIONING, "connect", f"Kaggle as {self._user()}")
        need = Need(order.spec, order.lock)
        settings = fit.settings(need, self._options)
        if not order.segment.handle.get("kernel"):
            fit.afford(need, settings, self._left(settings), float(order.order["time_s"]))
        yield from push.push(push.Pushing(self.config, self.api, order, settings))

    def status(self, segment: Segment) -> Status:
        """Kaggle's word; how the job ended only by its exit record."""
        if not segment.handed_over and not segment.handle.get("version"):
            return Status(State.PENDING)
        folder = self._folder(segment)
        found = folder.status()
        if found is None or not over(found.state):
            return judge(Seen(found.state if found else ""))
        data = b"".join(block for _, block in folder.read([Range(records.EXIT, 0, published.MAX_EXIT_BYTES)]))
        if data:
            record = published.exit_record(data, segment.run_id, segment.number)
            return judge(Seen(found.state, found.failure), record)
        said = live.heard(self.api, (folder.place.slug, folder.place.version), segment.first_seq)
        saved = records.LOG in folder.outputs()
        return judge(Seen(found.state, found.failure, said.began, said.ran or saved, saved, said.words))

    def open(self, segment: Segment) -> contextlib.AbstractContextManager[KaggleFolder]:
        return contextlib.nullcontext(self._folder(segment))

    def cancel(self, segment: Segment, grace_s: float) -> None:
        """Kaggle stops a session at once and keeps what it wrote; it knows no asking to save first."""
        place = self._place(segment)
        end = time.monotonic() + TOLD_S
        while (status := self.api.kernel_status(place.slug, place.version)) and not over(status.state):
            if number := self._session(place, status):
                self.api.cancel(int(number))
                return
            if time.monotonic() > end:
                raise TargetError(
                    f"{place.slug} is {status.state.lower()} and has not said its session's number, without"
                    " which Kaggle stops nothing",
                    "try again in a minute; it ends by itself at its time limit;"
                    " `launcher release RUN --force` removes the notebook",
                )
            time.sleep(LOOK_S)

    def release(self, segment: Segment) -> Iterator[Step]:
        """Stop the session, delete dataset and notebook, unless another segment's version is the newest in it."""
        place, nonce = self._place(segment), segment.run_id[-8:]
        if place.version:
            self._stopped(place)
        newest = push.version_of(self.api.kernel(place.slug))
        if newest and newest == place.version:
            self.api.delete_kernel(place.slug)
            _gone(self.api.kernel(place.slug), f"the notebook {place.slug}")
        if newest in (0, place.version):
            yield Step(segment.state, "remove", place.slug, released=Resource("kernel", place.slug, nonce))
        dataset = str(segment.handle.get("dataset") or f"{self.api.user()}/{datasets.dataset_name(segment)}")
        self.api.delete_dataset(dataset)
        _gone(self.api.dataset_status(dataset), f"the dataset {dataset}")
        yield Step(segment.state, "remove", dataset, released=Resource("dataset", dataset, nonce))
        push.clear(self.config, segment)

    def owned(self) -> list[Resource]:
        """My notebooks and datasets that bear a run's nonce, and the environments of all runs."""
        found = [Resource("kernel", one.slug, nonce) for one, nonce in _ours(self.api.kernels())]
        for one, nonce in _ours(listed := self.api.datasets()):
            found.append(Resource("dataset", one.slug, nonce))
        houses = [one for one in listed if one.slug.rpartition("/")[2].startswith(datasets.ENVIRONMENTS)]
        return [*found, *(Resource("environment", one.slug, "") for one in houses)]

    def quota(self) -> list[Quota]:
        return self.api.quota(self.name)

    def lacking(self, data: Sequence[Any]) -> Mapping[str, int]:
        """Local data travels with each segment; what is downloaded there does not."""
        return {one.key: one.size_bytes or 0 for one in data if one.digest}

    def _left(self, settings: push.Settings) -> list[Quota]:
        """The quota, where it matters and Kaggle tells it."""
        try:
            return self.quota() if settings.accelerator else []
        except RemoteError:
            return []

    def _user(self) -> str:
        if self._warming is not None:
            warming, self._warming = self._warming, None
            return str(warming.result())
        return self.api.user()

    def _has_environment(self, need: Need) -> bool:
        plan = push.planned(need.spec, need.lock)
        slug = f"{self.api.user()}/{datasets.ENVIRONMENTS}{plan.key}"
        return datasets.ready(self.api, slug, plan.key)

    def _place(self, segment: Segment) -> Place:
        handle = segment.handle
        user = self.api.user()
        slug = str(handle.get("kernel") or f"{user}/{datasets.notebook_name(segment)}")
        if (owner := slug.partition("/")[0]) != user:  # who may not see it must not take it for gone
            raise AuthError(
                f"{segment.run_id} runs as {owner} on Kaggle, and the credentials here are {user}'s",
                f"use {owner}'s token",
            )
        folder = handle.get("folder") or f"{segment.run_id}/{segment.number}"
        version = handle.get("version")
        if handle.get("kernel") and not version:  # a push without an answer
            version = int(handle.get("before") or 0) + 1
        return Place(slug, version, str(folder), segment.first_seq)

    def _folder(self, segment: Segment) -> KaggleFolder:
        return KaggleFolder(self.api, self._place(segment))

    def _session(self, place: Place, status: KernelStatus) -> str:
        return "" if status.state == "QUEUED" else live.session_id(self.api, place.slug, place.version)

    def _stopped(self, place: Place) -> None:
        """A session that lives is cancelled; one that does not say its number goes with its notebook."""
        end = time.monotonic() + STOPPED_S
        asked = False
        while (status := self.api.kernel_status(place.slug, place.version)) and not over(status.state):
            if not asked:
                number = self._session(place, status)
                if not number:
                    return
                with contextlib.suppress(AuthError):
                    self.api.cancel(int(number))
                asked = True
            if time.monotonic() > end:
                return
            time.sleep(LOOK_S)


def _gone(found: Any, what: str) -> None:
    if found is not None:
        raise TargetError(f"Kaggle still lists {what}", "`launcher release RUN` again, or delete it there")


def _ours(listed: Sequence[Any]) -> Iterator[tuple[Any, str]]:
    for one in listed:
        if nonce := datasets.nonce_of(one.slug):
            yield one, nonce
