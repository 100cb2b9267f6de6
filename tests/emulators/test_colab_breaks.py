"""The emulated Colab's limits and faults: sessions end, quotas run out, connections break, nothing is left over."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.emulators.colab.account import Account
from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.faults import Faults
from tests.emulators.colab.plain import CellLost, PlainClient, Runtime, notebook, unguarded
from tests.emulators.colab.settings import DENIED, DENYLISTED, EXCEEDED, Settings

HOUR = 3600
MIB = 1 << 20
NOTEBOOK = notebook()


@pytest.fixture(scope="module")
def shared() -> Iterator[Colab]:
    with Colab(Settings(max_sessions=3)) as emulator:
        yield emulator


@pytest.fixture
def colab(shared: Colab) -> Iterator[Colab]:
    """Without faults; the runtimes that a test adds are gone after it."""
    before = shared.endpoints
    yield shared
    vars(shared.faults).update(vars(Faults()))
    for endpoint in shared.endpoints:
        if endpoint not in before and shared.notebook_of(endpoint) != NOTEBOOK:
            shared.reclaim(endpoint)


@pytest.fixture
def client(colab: Colab) -> PlainClient:
    return PlainClient.of(colab)


@pytest.fixture
def runtime(client: PlainClient) -> Runtime:
    """The same one for all tests that let it live."""
    return client.runtime(nbh=NOTEBOOK)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def processes(mark: str) -> list[str]:
    """The command lines on this machine that contain a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in line:
            found.append(line)
    return found


@pytest.mark.parametrize("outcome", [DENIED, EXCEEDED, DENYLISTED])
def test_an_outcome_other_than_success_brings_no_runtime(
    colab: Colab, client: PlainClient, outcome: int
) -> None:
    before, colab.faults.outcome = colab.endpoints, outcome
    answer = client.assign("T4")
    assert (answer.status_code, unguarded(answer)) == (200, {"outcome": outcome})
    assert colab.endpoints == before


@pytest.mark.parametrize("status", [412, 502, 503])
def test_a_refused_assignment_brings_no_runtime(colab: Colab, client: PlainClient, status: int) -> None:
    before, colab.faults.assign_statuses = colab.endpoints, [status]
    assert client.assign("T4").status_code == status
    assert colab.endpoints == before


@pytest.mark.parametrize(
    "wish",
    [{"gpu": "H100"}, {"gpu": "T4", "shape": "hm"}, {"runtime_version_label": "2019.01"}, {"nbh": "short"}],
)
def test_a_wish_that_the_account_cannot_have_is_a_bad_request(
    client: PlainClient, wish: dict[str, str]
) -> None:
    assert client.assign(**wish).status_code == 400


def test_an_account_has_only_so_many_runtimes(colab: Colab, client: PlainClient, runtime: Runtime) -> None:
    colab.change(max_sessions=len(colab.endpoints))
    try:
        assert client.assign().status_code == 412
    finally:
        colab.change(max_sessions=3)


def test_a_lost_answer_leaves_a_runtime_that_the_notebook_finds_again(
    colab: Colab, client: PlainClient
) -> None:
    before, colab.faults.lost_assign_answers = colab.endpoints, 1
    nbh = notebook()
    with pytest.raises(requests.ConnectionError):
        client.assign(nbh=nbh)
    assert colab.endpoints == [*before, client.runtime(nbh=nbh).endpoint]


def test_another_accelerator_may_come_than_was_asked_for(colab: Colab, client: PlainClient) -> None:
    colab.faults.given = {"T4": "NONE"}
    runtime = client.runtime("T4")
    assert runtime.told["accelerator"] == "NONE"
    assert runtime.execute("import shutil; print(shutil.which('nvidia-smi'))").printed() == "None\n"


def test_a_reclaimed_runtime_takes_its_daemons_and_its_disk_along(colab: Colab, client: PlainClient) -> None:
    runtime, disk = client.runtime(), colab.disk()
    mark = f"sleep 1000{time.monotonic_ns()}"
    runtime.execute(f"import subprocess; subprocess.Popen('{mark}'.split(), start_new_session=True)")
    assert processes(mark)
    colab.reclaim()
    assert runtime.endpoint not in client.runtimes()
    assert runtime.request("GET", "/api/status").status_code == 404
    assert processes(mark) == processes(str(disk)) == []
    assert not disk.exists()
    assert str(disk) not in Path("/proc/mounts").read_text()


def test_a_session_ends_after_its_twelve_hours_however_alive_it_is_kept() -> None:
    with Colab(Settings(speed=12 * HOUR / 2.5)) as colab:
        client = PlainClient.of(colab)
        endpoint = client.runtime().endpoint
        while client.keep_alive(endpoint) == 200:
            time.sleep(0.1)
        assert colab.ended == {endpoint: "session"}


def test_a_runtime_is_idle_without_a_running_cell_and_a_keep_alive() -> None:
    with Colab(Settings(max_sessions=3)) as colab:
        client = PlainClient.of(colab)
        kept, busy = client.runtime(), client.runtime()
        busy.execute("import time\nprint('busy', flush=True)\ntime.sleep(600)", leave_after="busy")
        left = client.runtime()  # the last one to come is the first one to go
        client.keep_alive(kept.endpoint)
        colab.change(idle_s=4.0)
        while left.endpoint not in colab.ended:
            client.keep_alive(kept.endpoint)
            time.sleep(0.1)
        assert colab.ended == {left.endpoint: "idle"}
        assert colab.endpoints == [kept.endpoint, busy.endpoint]


def test_paid_units_are_spent_before_the_free_quota() -> None:
    account = Account(Settings(balance=1.0, free_milli_units=500))
    account.charge(0.75)
    assert (account.balance, account.free_milli_units) == (0.25, 500)
    account.charge(0.5)
    assert (account.balance, account.free_milli_units) == (0, 250)
    account.charge(9)
    assert account.exhausted


def test_a_session_ends_when_the_account_is_empty_and_none_is_given_after_it() -> None:
    with Colab(Settings(balance=0.001, free_milli_units=1)) as colab:
        client = PlainClient.of(colab)
        endpoint = client.runtime("T4").endpoint
        colab.change(speed=HOUR, idle_s=24 * HOUR)
        until(lambda: colab.ended == {endpoint: "quota"})
        info = client.request("GET", "/v1/user-info?get_ccu_consumption_info=true").json()
        assert (info["paidComputeUnitsBalance"], info["freeCcuQuotaInfo"]["remainingTokens"]) == (0, "0")
        assert unguarded(client.assign())["outcome"] == EXCEEDED


def test_a_proxy_token_that_expires_in_the_middle_of_an_upload_costs_no_byte(
    colab: Colab, client: PlainClient, runtime: Runtime
) -> None:
    colab.faults.expire_after_bytes = 4 * MIB
    statuses = []
    for number in (1, 2, 3, 4, -1):
        statuses.append(runtime.put_chunk("content/file", number, b"x" * MIB))
        if statuses[-1] == 401:
            runtime = client.runtimes()[runtime.endpoint]
            runtime.put_chunk("content/file", number, b"x" * MIB)
    assert statuses.count(401) == 1
    assert (colab.disk(runtime.endpoint) / "content/file").stat().st_size == 5 * MIB


def test_a_download_goes_on_over_cut_connections(colab: Colab, runtime: Runtime) -> None:
    content = bytes(range(256)) * (5 * MIB // 256)
    (colab.disk(runtime.endpoint) / "content/file").write_bytes(content)
    colab.faults.cut_after_bytes = MIB
    got, cuts = b"", 0
    while len(got) < len(content):
        try:
            for block in _stream(runtime, len(got), len(content)):
                got += block
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            cuts += 1
    assert got == content
    assert cuts >= 5


def _stream(runtime: Runtime, first: int, size: int) -> Iterator[bytes]:
    headers = {"Range": f"bytes={first}-{size - 1}"}
    answer = runtime.request("GET", "/files/content/file", headers=headers, stream=True)
    assert answer.status_code == (206 if first else 200)  # Jupyter says 200 when it is the whole file
    return answer.iter_content(64 << 10)


def test_a_socket_is_cut_after_some_seconds_and_the_cell_goes_on(colab: Colab, runtime: Runtime) -> None:
    kernel = runtime.execute("import time").kernel
    colab.faults.cut_after_s = 0.5
    with pytest.raises(CellLost):
        runtime.execute("time.sleep(1.5); open('/content/done', 'w').close()", kernel=kernel)
    until((colab.disk(runtime.endpoint) / "content/done").exists)


def test_a_killed_kernel_comes_back_without_its_memory(colab: Colab, runtime: Runtime) -> None:
    kernel = runtime.execute("kept = 1").kernel
    assert colab.kill_kernels(runtime.endpoint) >= 1
    until(lambda: runtime.execute("kept", kernel=kernel).error == "NameError")


def test_a_slow_runtime_is_unavailable_first(colab: Colab, client: PlainClient) -> None:
    colab.faults.start_delay_s = 1.0
    runtime = client.runtime()
    assert runtime.request("GET", "/api/status").status_code == 503
    until(lambda: runtime.request("GET", "/api/status").status_code == 200)


def test_nothing_outlives_an_emulator_that_is_killed() -> None:
    command = [sys.executable, "-m", "tests.emulators.colab"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().partition("=")[2].strip()
        token = process.stdout.readline().partition("=")[2].strip()
        PlainClient(url, token).runtime()
        mark = f"launcher-colab-{process.pid}-"
        assert processes(mark)
        process.kill()
    until(lambda: processes(mark) == [])
    with Colab():
        pass  # the next one takes away the disks of those that were killed
    assert not list(Path(tempfile.gettempdir()).glob(f"{mark}*"))
