"""Notebooks and scripts: saved as versions, each of which may run once."""

from __future__ import annotations

import itertools
import json
import re
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.emulators.kaggle.accounts import FOR_SECRETS, Account
from tests.emulators.kaggle.datasets import Datasets
from tests.emulators.kaggle.machine import IMAGE_DIGEST, Machine, given
from tests.emulators.kaggle.problem import Problem, denied
from tests.emulators.kaggle.sessions import Session, Ways

Body = dict[str, Any]
IMAGES = r"gcr\.io/kaggle-(images|gpu-images|private-byod)/python[@:]"


@dataclass
class Version:
    number: int
    body: Body  # as it was pushed
    session: Session | None = None


@dataclass
class Kernel:
    owner: str
    slug: str
    title: str
    id: int
    kind: str
    versions: list[Version] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"{self.owner}/{self.slug}"


class Kernels:
    """All kernels by `owner/slug`."""

    def __init__(self, ways: Ways, datasets: Datasets) -> None:
        self._ways, self._datasets = ways, datasets
        self.by_ref: dict[str, Kernel] = {}
        self.sessions: list[Session] = []
        self._ids = itertools.count(42)
        self._lock = threading.Lock()

    def save(self, account: Account, body: Body) -> Body:
        """A new version, and its session unless the push was a quick save."""
        with self._lock:
            if problem := self._refused(account, body):
                return {"error": problem}
            kernel = self._kernel(account, body)
            inputs, missing = self._inputs(account, kernel, body)
            version = Version(len(kernel.versions) + 1, body)
            kernel.versions.append(version)
            if body.get("kernelExecutionType") != "QUICK_SAVE":
                version.session = self._start(account, kernel, body, inputs)
        return {
            "ref": f"/code/{kernel.ref}",
            "url": f"https://www.kaggle.com/code/{kernel.ref}",
            "versionNumber": version.number,
            "kernelId": kernel.id,
            **missing,
        }

    def get(self, account: Account, body: Body) -> Body:
        kernel, version = self.find(account, body)
        source = {"source": version.body.get("text", ""), "language": "python", "slug": kernel.slug}
        return {"metadata": _shown(kernel, version), "blob": {**source, "kernelType": kernel.kind}}

    def listing(self, account: Account, body: Body) -> Body:
        wanted = (body.get("search") or "").lower()
        mine = [one for one in self.by_ref.values() if one.owner == account.name]
        found = [one for one in mine if wanted in one.title.lower() or wanted in one.slug]
        size, page = int(body.get("pageSize") or 20), int(body.get("page") or 1)
        shown = [_shown(one, one.versions[-1]) for one in found[(page - 1) * size : page * size]]
        return {"kernels": shown, "nextPageToken": ""}

    def delete(self, account: Account, body: Body) -> Body:
        kernel, _ = self.find(account, body)
        for version in kernel.versions:
            if version.session and not version.session.over:
                version.session.cancel()
        del self.by_ref[kernel.ref]
        return {}

    def status(self, account: Account, body: Body) -> Body:
        session = self.session(account, body)
        return {"status": session.state, **({"failureMessage": session.failure} if session.failure else {})}

    def cancel(self, account: Account, body: Body) -> Body:
        """Only whoever started it; others are told no more than that."""
        for session in self.sessions:
            if session.id == body.get("kernelSessionId") and session.account is account:
                if session.over:
                    return {"errorMessage": "The session is not running."}
                session.cancel()
                return {}
        raise denied("kernelSessions.cancel")

    def find(self, account: Account, body: Body) -> tuple[Kernel, Version]:
        """The kernel and the version asked for (`versionLabel`, or `slug/3`), else the newest."""
        slug, _, number = str(body.get("kernelSlug", "")).partition("/")
        kernel = self.by_ref.get(f"{body.get('userName')}/{slug}")
        if kernel is None or kernel.owner != account.name:
            raise denied("kernels.get")
        label = body.get("versionLabel") or (f"v{number}" if number else "")
        if not label:
            return kernel, kernel.versions[-1]
        for version in kernel.versions:
            if label == f"v{version.number}":
                return kernel, version
        raise Problem(404, f"Version {label!r} not found")

    def session(self, account: Account, body: Body) -> Session:
        """The session of a version; without a version, of the newest that ran."""
        kernel, version = self.find(account, body)
        asked = body.get("versionLabel") or "/" in str(body.get("kernelSlug", ""))
        candidates = [version] if asked else reversed(kernel.versions)
        for one in candidates:
            if one.session is not None:
                return one.session
        raise Problem(404, "No runs found")

    def _refused(self, account: Account, body: Body) -> str:
        owner, _, slug = str(body.get("slug", "")).partition("/")
        if owner != account.name:
            raise denied("kernels.update")
        title, kind = body.get("newTitle") or slug, body.get("kernelType")
        kernel = self.by_ref.get(f"{owner}/{slug}")
        other = self.by_ref.get(f"{owner}/{slugify(title)}")
        if not 5 <= len(title) <= 50:
            return "Title must be between 5 and 50 characters"
        if kind not in ("notebook", "script") or body.get("language") != "python":
            return "Only python notebooks and scripts run in this emulator"
        if kernel and kernel.kind != kind:
            return "The kernel type cannot be changed after creation"
        if other and other is not kernel:
            return (
                f'The requested title "{title}" is already in use by a notebook. Please choose another title.'
            )
        if kind == "notebook" and not _is_notebook(body.get("text", "")):
            return "The notebook is not valid JSON in a notebook's format"
        if (image := body.get("dockerImage")) and not re.match(IMAGES, image):
            return f"The docker image {image!r} is not one of Kaggle's"
        return self._no_room(account, body)

    def _no_room(self, account: Account, body: Body) -> str:
        settings = self._ways.settings
        shape = given(body.get("machineShape") or "", body.get("enableGpu", False), settings.shapes)
        if not shape or body.get("kernelExecutionType") == "QUICK_SAVE":
            return ""
        if account.gpu_left_s <= 0:
            return "You have exceeded your weekly GPU quota."
        running = [one for one in self.sessions if one.gpu and not one.over and one.account is account]
        if len(running) >= settings.gpu_sessions:
            return f"Maximum batch GPU session count of {settings.gpu_sessions} reached."
        return ""

    def _kernel(self, account: Account, body: Body) -> Kernel:
        """A title that does not lead to the slug wins over it when a kernel is new."""
        slug = body["slug"].partition("/")[2]
        title = body.get("newTitle") or slug
        kernel = self.by_ref.get(f"{account.name}/{slug}")
        if kernel is None:
            slug = slugify(title)
            kernel = Kernel(account.name, slug, title, next(self._ids), body["kernelType"])
            self.by_ref[kernel.ref] = kernel
        kernel.title = title
        return kernel

    def _inputs(self, account: Account, kernel: Kernel, body: Body) -> tuple[list[tuple[str, Path]], Body]:
        found, no_dataset, no_kernel = [], [], []
        for ref in body.get("datasetDataSources", []):
            source = self._datasets.source(account, ref)
            found.append(source) if source else no_dataset.append(ref)
        for ref in body.get("kernelDataSources", []):
            other = self.by_ref.get(ref)
            done = [one.session for one in other.versions if one.session] if other else []
            outputs = [one.outputs for one in done if one.outputs]
            mine = other is not None and other is not kernel and other.owner == account.name and outputs
            found.append((other.slug, outputs[-1])) if other and mine else no_kernel.append(ref)
        return found, {"invalidDatasetSources": no_dataset, "invalidKernelSources": no_kernel}

    def _start(self, account: Account, kernel: Kernel, body: Body, inputs: list[tuple[str, Path]]) -> Session:
        settings, number = self._ways.settings, 310_000_000 + len(self.sessions)
        shape = given(body.get("machineShape") or "", body.get("enableGpu", False), settings.shapes)
        folder = self._ways.folder / str(number)
        folder.mkdir()
        token = account.token(FOR_SECRETS)
        told = {"KAGGLE_URL_BASE": self._ways.url, "KAGGLE_USER_SECRETS_TOKEN": token}
        internet = body.get("enableInternet", False) and account.phone_verified
        more = {**told, **settings.environment}
        machine = Machine(
            number,
            kernel.kind,
            body.get("text", ""),
            shape,
            internet,
            tuple(inputs),
            more,
            visible=settings.visible,
            image=body.get("dockerImage") or "",
        )
        limit = min(body.get("sessionTimeoutSeconds") or settings.session_limit_s, settings.session_limit_s)
        session = Session(number, account, machine, limit, replace(self._ways, folder=folder))
        session.secrets_token = token
        self.sessions.append(session)
        session.start()
        return session


def slugify(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _is_notebook(text: str) -> bool:
    try:
        return isinstance(json.loads(text).get("cells"), list)
    except (ValueError, AttributeError):
        return False


def _shown(kernel: Kernel, version: Version) -> Body:
    body, session = version.body, version.session
    return {
        "id": kernel.id,
        "ref": kernel.ref,
        "title": kernel.title,
        "author": kernel.owner,
        "slug": kernel.slug,
        "language": "python",
        "kernelType": kernel.kind,
        "isPrivate": body.get("isPrivate", True),
        "enableGpu": bool(session and session.gpu),
        "enableInternet": bool(session.machine.internet if session else body.get("enableInternet")),
        "datasetDataSources": body.get("datasetDataSources", []),
        "kernelDataSources": body.get("kernelDataSources", []),
        "currentVersionNumber": kernel.versions[-1].number,
        "dockerImage": body.get("dockerImage") or f"gcr.io/kaggle-images/python@{IMAGE_DIGEST}",
        "machineShape": session.machine.shape if session and session.machine.shape else "None",
    }
