"""A place that the user opens by hand: the run's notebook is written here, and what happens there is not seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config import Config
from launcher.errors import Refused
from launcher.run import Resource, Segment, State, Status
from launcher.target import Finding, Folder, Limits, Need, Offer, Quota, Step, Submission

SUFFIX = "-notebook"
WAITS = "its notebook waits to be opened"


@dataclass(frozen=True)
class Place:
    """A platform as a hand-opened notebook finds it, and how one is opened there."""

    name: str
    title: str
    root: str
    segments: str
    open_it: str
    beside: str  # what to do with the file or folder beside the notebook
    secrets: str
    results: str


PLACES = {
    "kaggle": Place(
        "kaggle",
        "Kaggle",
        "/kaggle/tmp/launcher",
        "/kaggle/working",
        "kaggle.com: Create, New Notebook, File, Import Notebook; set Accelerator and Internet in the panel on"
        " the right; Save Version, Save & Run All",
        "Datasets, New Dataset, the files of {beside}; then in the notebook Add Input, that dataset",
        "in the notebook: Add-ons, Secrets, add and tick {names}",
        "the version, Output, Download All; unpack it",
    ),
    "colab": Place(
        "colab",
        "Colab",
        "/content/launcher",
        "/content/launcher/runs",
        "colab.research.google.com: File, Upload notebook; Runtime, Change runtime type; Runtime, Run all",
        "the second cell asks for {beside}: choose it there",
        "in the panel on the left: the key, add {names} and allow the notebook to use it",
        "the last cell downloads them; unpack it",
    ),
}
NAMES = tuple(place + SUFFIX for place in PLACES)


def name_of(platform: str) -> str:
    """What such a place is called in the ledger."""
    return platform + SUFFIX


def refuse(need: Need) -> None:
    """Raise Refused for a job that no notebook can run."""
    if need.spec.environment.needs_docker:
        raise Refused(
            "this job needs Docker (image, dockerfile or apt), which notebooks do not have",
            "remove these keys from job.yaml, or run it on a machine",
        )


def next_steps(segment: Segment, secrets: Sequence[str]) -> list[str]:
    """What the user does now, a line a step."""
    place = PLACES[segment.target.removesuffix(SUFFIX)]
    beside, house = segment.handle.get("beside"), segment.handle.get("environment_folder")
    steps = [f"open it: {place.open_it}"]
    if beside:
        steps.append(f"its payload is too large to be inside: {place.beside.format(beside=beside)}")
    if house:
        name = segment.handle["environment_name"]
        how = f"Datasets, New Dataset called {name}, the files of {house}; then in the notebook Add Input"
        steps.append(f"its environment needs no internet: {how}")
    if secrets:
        steps.append(f"secrets: {place.secrets.format(names=', '.join(secrets))}")
    bring = f"launcher pull {segment.run_id} --from-folder DIR"
    return [*steps, f"results: {place.results}, then {bring}"]


class HandTarget:
    """`kaggle-notebook` and `colab-notebook`. Its segments wait until a folder is brought home by `pull`."""

    limits = Limits(
        own_image=False,
        live=False,
        secrets=False,
        cancel=False,
        max_time_s=12 * 3600.0,
        way_in=False,
        live_checkpoints=False,
    )

    def __init__(self, config: Config, name: str) -> None:
        self.name, self.config = name, config
        self._place = PLACES[name.removesuffix(SUFFIX)]

    def warm(self) -> None:
        pass

    def check(self) -> Iterator[Finding]:
        yield Finding("opened by hand", True, f"`launcher notebook JOB --for {self._place.name}` writes it")

    def offers(self, need: Need) -> list[Offer]:
        verb = f"launcher notebook JOB --for {self._place.name}"
        why = f"it is opened by hand: `{verb}` writes a notebook, with `--resume RUN` a run's next one"
        return [Offer(self.name, self._place.title, fits=False, why_not=why)]

    def submit(self, order: Submission) -> Iterator[Step]:
        """Write the notebook, and beside it what is too large to be inside. Again: the same files anew."""
        from launcher.targets.hand_files import Files, write

        place, handle = self._place, order.segment.handle
        files = Files(Path(handle["notebook"]), place.name, bool(handle.get("offline")))
        made = yield from write(order, files, place.root, place.segments)
        yield Step(State.PENDING, "notebook", files.notebook.name, 1, 1, handle=made, handed_over=True)

    def status(self, segment: Segment) -> Status:
        return Status(State.PENDING, WAITS if segment.handed_over else "")

    def open(self, segment: Segment) -> AbstractContextManager[Folder]:
        raise Refused(
            f"{segment.run_id} is in a notebook opened by hand on {self._place.title}, out of reach from here",
            f"download what it wrote, then `launcher pull {segment.run_id} --from-folder DIR`;"
            f" `launcher release {segment.run_id} --force` gives it up",
        )

    def cancel(self, segment: Segment, grace_s: float) -> None:
        raise Refused(
            f"{segment.run_id} is in a notebook opened by hand on {self._place.title}, out of reach from here",
            "stop it there, download what it wrote, then"
            f" `launcher pull {segment.run_id} --from-folder DIR`;"
            f" `launcher release {segment.run_id} --force` gives it up",
        )

    def release(self, segment: Segment) -> Iterator[Step]:
        """Nothing of ours is there; the files here are the user's."""
        return iter(())

    def owned(self) -> list[Resource]:
        return []

    def quota(self) -> list[Quota]:
        return []

    def lacking(self, data: Sequence[Any]) -> Mapping[str, int]:
        return {}
