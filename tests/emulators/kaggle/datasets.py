"""Private datasets: versions that become READY late, archives that get unpacked, pages of files."""

from __future__ import annotations

import re
import shutil
import tarfile
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.emulators.kaggle.accounts import Account
from tests.emulators.kaggle.blobs import Blobs
from tests.emulators.kaggle.problem import Problem, denied
from tests.emulators.kaggle.settings import Faults, Settings

Body = dict[str, Any]


@dataclass
class Version:
    """A version's files lie unpacked in `folder`, which is what sessions see."""

    number: int
    folder: Path
    ready_at: float
    failed: bool = False
    notes: str = ""

    @property
    def status(self) -> str:
        if time.monotonic() < self.ready_at:
            return "NOT_YET_PERSISTED"
        return "FAILED" if self.failed else "READY"


@dataclass
class Dataset:
    owner: str
    slug: str
    title: str
    number: int
    private: bool = True
    versions: list[Version] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"{self.owner}/{self.slug}"

    def bound(self, number: int | None = None) -> Version | None:
        """What a kernel that is pushed now gets: the newest version that is READY."""
        ready = [one for one in self.versions if one.status == "READY" and number in (None, one.number)]
        return ready[-1] if ready else None


class Datasets:
    """All datasets by `owner/slug`."""

    def __init__(self, folder: Path, blobs: Blobs, settings: Settings, faults: Faults) -> None:
        self._folder, self._blobs, self._settings, self._faults = folder, blobs, settings, faults
        self.by_ref: dict[str, Dataset] = {}
        self._made = 0
        self._lock = threading.Lock()

    def status(self, account: Account, body: Body) -> Body:
        return {"status": self._find(account, body).versions[-1].status}

    def create(self, account: Account, body: Body) -> Body:
        slug, title = body.get("slug", ""), body.get("title", "")
        ref = f"{account.name}/{slug}"
        if problem := _refused(body, account.name) or self._taken(ref, title):
            return {"status": "error", "error": problem}
        with self._lock:
            self._made += 1
            made = Dataset(account.name, slug, title, 9000 + self._made, body.get("isPrivate", False))
        self._add(made, account, body)
        self.by_ref[ref] = made
        return {"ref": f"/datasets/{ref}", "url": f"https://www.kaggle.com/datasets/{ref}", "status": "ok"}

    def create_version(self, account: Account, body: Body) -> Body:
        dataset = self.by_ref.get(f"{body.get('ownerSlug')}/{body.get('datasetSlug')}")
        if dataset is None or dataset.owner != account.name:
            raise denied("datasets.update")
        self._add(dataset, account, body.get("body", {}))
        if body.get("body", {}).get("deleteOldVersions"):
            dataset.versions = dataset.versions[-1:]
        ref = dataset.ref
        return {"ref": f"/datasets/{ref}", "url": f"https://www.kaggle.com/datasets/{ref}", "status": "ok"}

    def files(self, account: Account, body: Body) -> Body:
        """A page of the files of the version that is current, or of the one asked for."""
        version = self._find(account, body).bound(body.get("datasetVersionNumber"))
        if version is None:
            return {"datasetFiles": [], "errorMessage": "the dataset has no version that is ready"}
        paths = sorted(path for path in version.folder.rglob("*") if path.is_file())
        start, size = int(body.get("pageToken") or 0), min(int(body.get("pageSize") or 20), 200)
        page = [
            {"name": str(path.relative_to(version.folder)), "totalBytes": path.stat().st_size}
            for path in paths[start : start + size]
        ]
        more = str(start + size) if start + size < len(paths) else ""
        return {"datasetFiles": page, "nextPageToken": more}

    def get(self, account: Account, body: Body) -> Body:
        return _shown(self._find(account, body))

    def listing(self, account: Account, body: Body) -> Body:
        wanted = (body.get("search") or "").lower()
        mine = [one for one in self.by_ref.values() if one.owner == account.name]
        found = [one for one in mine if wanted in one.title.lower() or wanted in one.slug]
        size, page = int(body.get("pageSize") or 20), int(body.get("page") or 1)
        return {"datasets": [_shown(one) for one in found[(page - 1) * size : page * size]]}

    def delete(self, account: Account, body: Body) -> Body:
        dataset = self._find(account, body)
        if dataset.owner != account.name:
            raise denied("datasets.delete")
        del self.by_ref[dataset.ref]
        return {}

    def source(self, account: Account, ref: str) -> tuple[str, Path] | None:
        """Slug and folder for a kernel's `owner/slug[/version]`; None if there is nothing to bind."""
        owner, _, rest = ref.partition("/")
        slug, _, number = rest.partition("/")
        dataset = self.by_ref.get(f"{owner}/{slug}")
        if dataset is None or (dataset.private and dataset.owner != account.name):
            return None
        version = dataset.bound(int(number.removeprefix("versions/")) if number else None)
        return (slug, version.folder) if version else None

    def _find(self, account: Account, body: Body) -> Dataset:
        dataset = self.by_ref.get(f"{body.get('ownerSlug')}/{body.get('datasetSlug')}")
        if dataset is None:
            raise Problem(404, "Dataset not found")
        if dataset.private and dataset.owner != account.name:
            raise denied("datasets.get")
        return dataset

    def _taken(self, ref: str, title: str) -> str:
        mine = [one for one in self.by_ref.values() if one.owner == ref.split("/")[0]]
        if any(one.ref == ref for one in mine):
            return f"The requested slug {ref.split('/')[1]!r} is already in use by a dataset."
        taken = any(one.title == title for one in mine)
        return f"The requested title {title!r} is already in use by a dataset." if taken else ""

    def _add(self, dataset: Dataset, account: Account, body: Body) -> None:
        with self._lock:
            number = dataset.versions[-1].number + 1 if dataset.versions else 1
        folder = self._folder / dataset.owner / dataset.slug / str(dataset.number) / str(number)
        folder.mkdir(parents=True)
        self._take(folder, account, body)
        delay = float("inf") if self._faults.dataset_stuck else self._settings.dataset_wall_s
        notes = body.get("versionNotes", "Initial release")
        ready_at = time.monotonic() + delay
        dataset.versions.append(Version(number, folder, ready_at, self._faults.dataset_failed, notes))

    def _take(self, folder: Path, account: Account, body: Body) -> None:
        folder.mkdir(exist_ok=True)
        for file in body.get("files", []):
            blob = self._blobs.use(account.name, file["token"])
            unpack(blob.path, folder, blob.name)
        for part in body.get("directories", []):
            self._take(folder / _plain(part["name"]), account, part)


def unpack(source: Path, folder: Path, name: str) -> None:
    """Archives become folders of their name, as on Kaggle; all else stays as it is."""
    name = _plain(name)
    stem = re.sub(r"\.(zip|tar|tar\.gz|tgz)$", "", name)
    if name.endswith(".zip") and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as packed:
            packed.extractall(folder / stem)
    elif stem != name and tarfile.is_tarfile(source):
        with tarfile.open(source) as tar:
            tar.extractall(folder / stem, filter="data")
    else:
        shutil.copyfile(source, folder / name)


def _plain(name: str) -> str:
    if not name or name in (".", "..") or "/" in name:
        raise Problem(400, f"{name!r} is no file name")
    return name


def _refused(body: Body, name: str) -> str:
    if body.get("ownerSlug") != name:
        raise denied("datasets.create")
    if not re.fullmatch(r"[a-z0-9](-?[a-z0-9]){5,49}", body.get("slug", "")):
        return "The dataset slug must be between 6 and 50 characters"
    if not 6 <= len(body.get("title", "")) <= 50:
        return "The dataset title must be between 6 and 50 characters"
    if not body.get("files") and not body.get("directories"):
        return "A dataset needs at least one file"
    return "" if body.get("licenseName") else "Please specify a license"


def _shown(dataset: Dataset) -> Body:
    current = dataset.bound()
    size = sum(path.stat().st_size for path in current.folder.rglob("*") if path.is_file()) if current else 0
    versions = [
        {"versionNumber": one.number, "status": one.status, "versionNotes": one.notes}
        for one in reversed(dataset.versions)
    ]
    return {
        "id": dataset.number,
        "ref": dataset.ref,
        "title": dataset.title,
        "ownerRef": dataset.owner,
        "isPrivate": dataset.private,
        "totalBytes": size,
        "url": f"https://www.kaggle.com/datasets/{dataset.ref}",
        "currentVersionNumber": current.number if current else 0,
        "versions": versions,
    }
