"""One segment pushed to Kaggle: payload, private datasets, notebook; each adopted when it is there already."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher import environment
from launcher.config import Config
from launcher.errors import LauncherError, Refused, RemoteError, Unreachable
from launcher.ledger.files import private_folder
from launcher.notebook import ipynb, payload, wheelhouse
from launcher.run import Resource, Segment, State
from launcher.target import Step, Submission
from launcher.targets.kaggle import datasets
from launcher.targets.kaggle.api import KaggleAPI, Push, Pushed

MOST_S = 12 * 3600.0  # Kaggle's own limit of a session
SETUP_S = 1800.0  # at most, before the job's first line
ROOT, WORKING, INPUT = "/kaggle/tmp/launcher", "/kaggle/working", "/kaggle/input"
LOOK_S = (0.5, 1.0, 2.0, 4.0)
MEMORY = Path("/dev/shm")
ROOM_BYTES = 64 << 20


@dataclass(frozen=True)
class Settings:
    """What a target's options say of a push, and the accelerator that was chosen."""

    accelerator: str = ""
    image: str = ""
    internet: bool = True
    wheelhouse: bool = False  # the environment comes from a private dataset of its own
    secrets: str = payload.KAGGLE


@dataclass(frozen=True)
class Pushing:
    """One submission on its way."""

    config: Config
    api: KaggleAPI
    submission: Submission
    settings: Settings

    @property
    def segment(self) -> Segment:
        return self.submission.segment

    @property
    def slug(self) -> str:
        """The notebook."""
        return f"{self.api.user()}/{datasets.notebook_name(self.segment)}"

    @property
    def dataset(self) -> str:
        return f"{self.api.user()}/{datasets.dataset_name(self.segment)}"

    @property
    def plan(self) -> environment.EnvironmentPlan:
        return planned(self.submission.spec, self.submission.lock)

    @property
    def session_s(self) -> float:
        """When Kaggle is to end the session, whatever the job does."""
        order = self.submission.order
        return min(MOST_S, float(order["time_s"]) + float(order["grace_s"]) + SETUP_S)


def push(pushing: Pushing) -> Iterator[Step]:
    """Save points up to the hand-over."""
    try:
        yield from _steps(pushing)
    finally:
        clear(pushing.config, pushing.segment)


def planned(spec: Any, lock: Any) -> environment.EnvironmentPlan:
    """The environment on Kaggle's machines."""
    return environment.plan(spec.environment, lock, "x86_64")


def clear(config: Config, segment: Segment) -> None:
    """Nothing of a segment's payload is left on this machine."""
    for folder in (_on_disk(config), _in_memory()):
        shutil.rmtree(folder / _name(segment), ignore_errors=True)


def _name(segment: Segment) -> str:
    return f"{segment.run_id}.{segment.number}"


def _on_disk(config: Config) -> Path:
    return config.home / "payloads"


def _in_memory() -> Path:
    return MEMORY / f"launcher-{os.getuid()}"


def _place(pushing: Pushing) -> Path:
    """Where the payload lies while it is sent. One with secrets in it never reaches a disk if memory has room."""
    if pushing.settings.secrets == payload.FILE and pushing.submission.secrets and MEMORY.is_dir():
        needed = pushing.submission.bundle.size_bytes
        needed += sum(source.size_bytes or 0 for source in pushing.submission.data)
        needed += getattr(pushing.submission.resume_from, "size_bytes", 0)
        if shutil.disk_usage(MEMORY).free > 2 * needed + ROOM_BYTES:
            return _in_memory() / _name(pushing.segment)
    return _on_disk(pushing.config) / _name(pushing.segment)


def _steps(pushing: Pushing) -> Iterator[Step]:
    api, segment, slug, dataset = pushing.api, pushing.segment, pushing.slug, pushing.dataset
    nonce = segment.run_id[-8:]
    found = api.kernel(slug)
    if found and segment.handle.get("kernel") and version_of(found) > segment.handle.get("before", 0):
        yield from _handed_over(pushing, _as_pushed(slug, found))
        return
    if found and not segment.number:
        raise Refused(
            f"there is a notebook {slug} on Kaggle, which is not this run's", "delete it there, or rename it"
        )
    house = yield from _environment(pushing)
    folder = f"{segment.run_id}/{segment.number}"
    handle: dict[str, Any] = {
        "dataset": dataset,
        "folder": folder,
        "form": "plain",
        "environment": pushing.plan.key,
    }
    yield Step(State.SYNCING, handle=handle, resource=Resource("dataset", dataset, nonce))
    written = _written(pushing, house)
    yield from datasets.bring(api, datasets.Wanted(dataset, written.files, "upload to Kaggle"))
    before = version_of(found)
    handle = {"kernel": slug, "before": before}
    yield Step(State.SYNCING, "push", slug, handle=handle, resource=Resource("kernel", slug, nonce))
    yield from _handed_over(pushing, _saved(pushing, _wanted(pushing, written, house), before))


def version_of(found: Mapping[str, Any] | None) -> int:
    """The newest version of a notebook, by its metadata; 0 when there is no notebook."""
    return int(found.get("currentVersionNumber") or 1) if found else 0


def _environment(pushing: Pushing) -> Generator[Step, None, str]:
    """The slug of the private dataset with the locked environment; "" when it is built from the internet."""
    plan = pushing.plan
    if not pushing.settings.wheelhouse or plan.trivial:
        return ""
    slug = f"{pushing.api.user()}/{datasets.ENVIRONMENTS}{plan.key}"
    if datasets.ready(pushing.api, slug, plan.key):
        return slug
    folder = pushing.config.home / "wheelhouses" / plan.key
    private_folder(folder)
    for fetched in wheelhouse.fetching(plan, pushing.submission.lock, folder):
        yield Step(State.BUILDING, "collect wheels", fetched.name, fetched.done, fetched.total + 1)
    files = wheelhouse.collect(plan, pushing.submission.lock, folder)
    files = [*files, datasets.marker(folder, plan.key)]
    yield from datasets.bring(pushing.api, datasets.Wanted(slug, files, "upload environment"))
    shutil.rmtree(folder, ignore_errors=True)
    return slug


def _written(pushing: Pushing, house: str) -> payload.Payload:
    """The payload, and a file that marks its version."""
    clear(pushing.config, pushing.segment)
    folder = _place(pushing)
    platform = payload.Platform(
        "kaggle", ROOT, WORKING, pushing.session_s, pushing.settings.secrets, _mounted(house) if house else ""
    )
    try:
        private_folder(folder.parent)
        private_folder(folder)
        made = payload.write(pushing.submission, folder, platform)
        mark = datasets.marker(folder, made.file(payload.MANIFEST).sha256)
    except OSError as error:
        raise LauncherError(
            f"cannot write to {folder}: {error.strerror}", "free some space, or set LAUNCHER_HOME"
        ) from error
    return replace(made, files=(*made.files, mark))


def _mounted(slug: str) -> str:
    return f"{INPUT}/{slug.rpartition('/')[2]}"


def _wanted(pushing: Pushing, written: payload.Payload, house: str) -> Push:
    settings = pushing.settings
    title = pushing.slug.rpartition("/")[2]
    options = ipynb.Options(
        title=title,
        does="`launcher attach` follows it.",
        readable=False,
        embed=False,
        folders=(_mounted(pushing.dataset),),
    )
    return Push(
        slug=pushing.slug,
        title=title,
        text=ipynb.notebook(written, options),
        datasets=(pushing.dataset, *((house,) if house else ())),
        accelerator=settings.accelerator,
        internet=settings.internet,
        timeout_s=int(pushing.session_s),
        image=settings.image,
    )


def _saved(pushing: Pushing, wanted: Push, before: int) -> Pushed:
    """A push whose answer is lost is looked up by name before anything else: it would run twice."""
    try:
        return pushing.api.save_kernel(wanted)
    except Unreachable:
        for wait_s in LOOK_S:
            time.sleep(wait_s)
            found = pushing.api.kernel(pushing.slug)
            if found and version_of(found) > before:
                return _as_pushed(pushing.slug, found)
        raise


def _as_pushed(slug: str, found: Mapping[str, Any]) -> Pushed:
    """A push whose answer we never got, as the notebook's metadata tells it."""
    return Pushed(slug, version_of(found), int(found.get("id") or 0), "")


def _handed_over(pushing: Pushing, pushed: Pushed) -> Iterator[Step]:
    """Kaggle takes a push that it cannot serve; such a session is stopped before it costs anything."""
    found = pushing.api.kernel(pushing.slug) or {}
    if trouble := _trouble(pushing, pushed, found):
        pushing.api.delete_kernel(pushed.slug)
        resource = Resource("kernel", pushing.slug, pushing.segment.run_id[-8:])
        yield Step(State.SYNCING, handle={"kernel": None}, released=resource)
        raise trouble
    machine = {**_machine(pushing.settings), "image": found.get("dockerImage")}
    where = f"https://www.kaggle.com/code/{pushing.slug}"
    handle = {"kernel": pushing.slug, "version": pushed.version, "machine": machine, "address": where}
    yield Step(State.RUNNING, "start", where, 1, 1, handle=handle, handed_over=True)


def _trouble(pushing: Pushing, pushed: Pushed, found: Mapping[str, Any]) -> LauncherError | None:
    """What the session that has just begun lacks."""
    settings = pushing.settings
    if pushed.missing:
        what = ", ".join(pushed.missing)
        return RemoteError(
            f"Kaggle did not give the notebook its data ({what})", "`launcher attach RUN` tries again"
        )
    if pushed.slug != pushing.slug:
        return RemoteError(f"Kaggle calls the notebook {pushing.slug} {pushed.slug}", "choose another --name")
    needs_internet = settings.internet and not (settings.wheelhouse or pushing.plan.trivial)
    if needs_internet and found.get("enableInternet") is False:
        return Refused(
            "Kaggle gives this account's notebooks no internet: its phone number is not verified",
            "verify it at https://www.kaggle.com/settings, or set `environment: dataset` and `internet: off`"
            " on the target: the environment then comes from a private dataset",
        )
    got = str(found.get("machineShape") or "")
    if settings.accelerator and got and got != settings.accelerator:
        return Refused(
            f"Kaggle gives this account {got if got != 'None' else 'no accelerator'} in place of"
            f" {settings.accelerator}",
            "remove accelerator from the target, or ask Kaggle for it",
        )
    return None


def _machine(settings: Settings) -> dict[str, Any]:
    from launcher.targets.kaggle.accelerators import KNOWN

    one = KNOWN.get(settings.accelerator)
    gpus = [{"name": one.gpu, "memory_mb": one.memory_mb}] * one.count if one and one.gpu else []
    return {"system": "Linux", "arch": "x86_64", "accelerator": settings.accelerator, "gpus": gpus}
