"""The bodies of Kaggle's calls, and what their replies say, as values: no connection here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.errors import RemoteError
from launcher.target import Quota
from launcher.targets.kaggle import fields
from launcher.targets.kaggle.values import Push, Pushed

HOUR_S = 3600.0
SOURCES = (
    "invalidDatasetSources",
    "invalidKernelSources",
    "invalidModelSources",
    "invalidCompetitionSources",
)
Body = dict[str, Any]


def save_kernel(owner: str, name: str, push: Push) -> Body:
    """SaveKernel's, with the fields that the official client sends for the same push."""
    optional = {
        "datasetDataSources": list(push.datasets),
        "kernelDataSources": list(push.kernels),
        "sessionTimeoutSeconds": push.timeout_s,
        "dockerImage": push.image,
        "machineShape": push.accelerator,
    }
    return {
        "slug": f"{owner}/{name}",
        "newTitle": push.title,
        "text": push.text,
        "language": "python",
        "kernelType": "notebook",
        "isPrivate": True,
        "enableGpu": push.accelerator.startswith("Nvidia"),
        "enableTpu": push.accelerator.startswith("Tpu"),
        "enableInternet": push.internet,
        **{key: value for key, value in optional.items() if value},
    }


def pushed(reply: Mapping[str, Any], slug: str) -> Pushed:
    """What SaveKernel's reply says; Kaggle names the notebook by its title when the two disagree."""
    ref = fields.text(reply, "ref").removeprefix("/code/") or slug
    version = fields.number(reply, "versionNumber")
    if not version:
        raise RemoteError("Kaggle took the notebook and does not say as which version")
    missing = tuple(one for name in SOURCES for one in fields.texts(reply, name))
    return Pushed(ref, version, fields.number(reply, "kernelId"), fields.text(reply, "url"), missing)


def kernel(owner: str, name: str, version: int | None = None) -> Body:
    """A notebook, or a version of it."""
    return {"userName": owner, "kernelSlug": name, **({"versionLabel": f"v{version}"} if version else {})}


def dataset(owner: str, name: str) -> Body:
    return {"ownerSlug": owner, "datasetSlug": name}


def create_dataset(owner: str, name: str, title: str, tokens: Sequence[str]) -> Body:
    """CreateDataset's: private, with a licence because Kaggle wants one."""
    return {
        "ownerSlug": owner,
        "slug": name,
        "title": title,
        "licenseName": "other",
        "isPrivate": True,
        "files": _files(tokens),
    }


def create_version(owner: str, name: str, notes: str, tokens: Sequence[str]) -> Body:
    return {
        **dataset(owner, name),
        "body": {"versionNotes": notes, "deleteOldVersions": True, "files": _files(tokens)},
    }


def upload(name: str, size: int, changed_s: int) -> Body:
    return {
        "type": "DATASET",
        "name": name,
        "contentLength": size,
        "lastModifiedEpochSeconds": changed_s,
    }


def kernels(search: str) -> Body:
    return {"group": "PROFILE", "kernelType": "all", "language": "all", "outputType": "all", "search": search}


def datasets(search: str) -> Body:
    return {"group": "DATASET_SELECTION_GROUP_MY", "search": search}


def quota(reply: Mapping[str, Any], target: str) -> list[Quota]:
    """Hours of each kind of accelerator that the account may use."""
    refreshes = fields.text(reply, "quotaRefreshTime")
    found = []
    for what, name in (("GPU", "gpuQuota"), ("TPU", "tpuQuota")):
        part = fields.part(reply, name)
        if (total := fields.seconds(part, "totalTimeAllowed")) is None:
            continue
        used = fields.seconds(part, "timeUsed") or 0.0
        held = fields.seconds(part, "timeReserved") or 0.0
        left = max(0.0, total - used - held)
        notes = (f"{held / HOUR_S:.1f} hours are held for what runs now",) if held else ()
        hours = (used / HOUR_S, total / HOUR_S, left / HOUR_S)
        found.append(Quota(target, what, "hours", *hours, refreshes, notes))
    return found


def _files(tokens: Sequence[str]) -> list[Body]:
    return [{"token": token} for token in tokens]
