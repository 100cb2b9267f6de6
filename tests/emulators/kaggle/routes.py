"""Which RPC does what, and the fields that each of them knows: an unknown one is refused, as a typo should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.emulators.kaggle.accounts import Account, Accounts, quota
from tests.emulators.kaggle.blobs import Blobs
from tests.emulators.kaggle.datasets import Datasets
from tests.emulators.kaggle.kernels import Kernels
from tests.emulators.kaggle.outputs import page
from tests.emulators.kaggle.problem import Problem
from tests.emulators.kaggle.settings import Faults, Settings

Body = dict[str, Any]
KERNEL = "userName kernelSlug versionLabel"
DATASET = "ownerSlug datasetSlug"
VERSION = "versionNotes deleteOldVersions files subtitle description categoryIds directories"
LIST = "group search page pageSize pageToken sortBy user"
FIELDS = {
    "IntrospectToken": "token",
    "GenerateAccessToken": "refreshToken apiVersion expirationDuration scopes",
    "SaveKernel": "id slug newTitle text language kernelType datasetDataSources kernelDataSources"
    " competitionDataSources categoryIds isPrivate enableGpu enableInternet dockerImagePinningType"
    " modelDataSources enableTpu sessionTimeoutSeconds priority dockerImage kernelExecutionType machineShape",
    "GetKernelSessionStatus": KERNEL,
    "GetKernelSessionLogsStream": KERNEL + " kernelSessionId waitForLogsUrlSeconds",
    "ListKernelSessionOutput": KERNEL + " pageSize pageToken",
    "CancelKernelSession": "kernelSessionId",
    "GetAcceleratorQuotaStatistics": "",
    "GetKernel": KERNEL,
    "DeleteKernel": KERNEL,
    "ListKernels": LIST + " competition dataset parentKernel kernelType language outputType",
    "StartBlobUpload": "type name contentType contentLength lastModifiedEpochSeconds",
    "GetDatasetStatus": DATASET,
    "CreateDataset": "id ownerSlug slug title licenseName isPrivate files subtitle description categoryIds directories",
    "CreateDatasetVersion": DATASET + " body",
    "ListDatasetFiles": DATASET + " datasetVersionNumber pageSize pageToken",
    "GetDataset": DATASET,
    "ListDatasets": LIST + " size fileType license tagIds minSize maxSize hasBenchmark viewed",
    "DeleteDataset": DATASET,
}
SERVICES = {
    "security.OAuthService": ("IntrospectToken",),
    "users.AccountService": ("GenerateAccessToken",),
    "blobs.BlobApiService": ("StartBlobUpload",),
}
OPEN = ("IntrospectToken", "GenerateAccessToken")  # asked before there is an account


@dataclass(frozen=True)
class Site:
    """All that the emulator has."""

    settings: Settings
    faults: Faults
    accounts: Accounts
    blobs: Blobs
    datasets: Datasets
    kernels: Kernels


@dataclass(frozen=True)
class Call:
    """One RPC as it came; `base` is where its caller reaches the emulator."""

    method: str
    body: Body
    base: str
    authorization: str


def answer(site: Site, call: Call) -> Body:
    """The reply's JSON, or Problem."""
    _check_fields(call)
    if call.method == "IntrospectToken":
        return site.accounts.introspect(call.body.get("token", ""))
    if call.method == "GenerateAccessToken":
        return site.accounts.generate(call.body.get("refreshToken", ""))
    account, in_kernel = site.accounts.asking(call.authorization, site.faults.legacy_refused)
    if in_kernel and not call.method.startswith(("Get", "List")):
        raise Problem(403, f"A session's own token may not {call.method}")
    return _methods(site, call)[call.method](account, call.body)


def known(service: str, method: str) -> bool:
    """Whether this service has this method."""
    if service in SERVICES:
        return method in SERVICES[service]
    if service == "datasets.DatasetApiService":
        return "Dataset" in method and method in FIELDS
    return service == "kernels.KernelsApiService" and method in FIELDS and "Dataset" not in method


def _check_fields(call: Call) -> None:
    unknown = sorted(set(call.body) - set(FIELDS[call.method].split()))
    if call.method == "CreateDatasetVersion":
        unknown += sorted(set(call.body.get("body", {})) - set(VERSION.split()))
    if unknown:
        raise Problem(400, f"{call.method} has no field {', '.join(unknown)}")


def _methods(site: Site, call: Call) -> dict[str, Callable[[Account, Body], Body]]:
    kernels, datasets = site.kernels, site.datasets
    return {
        "SaveKernel": kernels.save,
        "GetKernel": kernels.get,
        "DeleteKernel": kernels.delete,
        "ListKernels": kernels.listing,
        "GetKernelSessionStatus": kernels.status,
        "CancelKernelSession": kernels.cancel,
        "ListKernelSessionOutput": lambda account, body: page(
            kernels.session(account, body), body, call.base, site.settings.signed_url_wall_s
        ),
        "GetAcceleratorQuotaStatistics": lambda account, body: quota(account),
        "StartBlobUpload": lambda account, body: _start_upload(site, account, call),
        "GetDatasetStatus": datasets.status,
        "CreateDataset": datasets.create,
        "CreateDatasetVersion": datasets.create_version,
        "ListDatasetFiles": datasets.files,
        "GetDataset": datasets.get,
        "ListDatasets": datasets.listing,
        "DeleteDataset": datasets.delete,
    }


def _start_upload(site: Site, account: Account, call: Call) -> Body:
    body = call.body
    token, key = site.blobs.start(account.name, body.get("name", ""), int(body.get("contentLength", 0)))
    return {"token": token, "createUrl": f"{call.base}/upload/{key}"}
