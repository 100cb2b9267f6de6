"""An emulated Colab for all tests of the client's own parts, and the way to one runtime there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from launcher.targets.colab.api import ColabAPI, Wanted
from launcher.targets.colab.files import RuntimeFiles
from launcher.targets.colab.runtime import RuntimeLine
from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.faults import Faults
from tests.emulators.colab.plain import PlainClient
from tests.emulators.colab.settings import Settings
from tests.targets.colab.hostile import Hostile

NOTEBOOK = "7f0c0f3e-9c5d-5f5a-9d5e-3a2b1c0d9e8f"


@pytest.fixture(scope="package")
def emulated() -> Iterator[Colab]:
    with Colab(Settings(max_sessions=3, high_memory=True)) as emulator:
        yield emulator


@pytest.fixture
def account(emulated: Colab) -> Iterator[Colab]:
    """Without faults, and after the test without runtimes but for the one that many share."""
    yield emulated
    vars(emulated.faults).update(vars(Faults()))
    for endpoint in emulated.endpoints:
        if not emulated.notebook_of(endpoint).startswith(NOTEBOOK.replace("-", "_")):
            PlainClient.of(emulated).unassign(endpoint)


@pytest.fixture
def api(account: Colab) -> ColabAPI:
    return ColabAPI(account.url, lambda: account.token)


@pytest.fixture
def line(api: ColabAPI) -> Iterator[RuntimeLine]:
    """To the runtime that all tests share which let it live; another one after it was taken away."""
    runtime = api.assign(Wanted(NOTEBOOK))
    made = RuntimeLine(runtime, lambda: api.refresh(runtime.endpoint))
    made.wait()
    yield made
    made.close()


@pytest.fixture
def files(line: RuntimeLine) -> RuntimeFiles:
    return RuntimeFiles(line)


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server
