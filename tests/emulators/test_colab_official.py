"""The official client takes the emulator for Colab: unmodified, but for the address and the sign-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulators.colab import official
from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.official import OfficialClient
from tests.emulators.colab.settings import Settings


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    with Colab(Settings(balance=12.5, max_sessions=2)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def client(colab: Colab, tmp_path_factory: pytest.TempPathFactory) -> OfficialClient:
    return official.install(colab, tmp_path_factory.mktemp("official") / "home")


@pytest.fixture(scope="module")
def session(client: OfficialClient) -> str:
    """The name of a session that `colab new` made."""
    done = client.run("new", "-s", "mine", "--gpu", "T4")
    assert done.returncode == 0, done.stderr
    assert "Session READY" in done.stdout
    return "mine"


def test_colab_sessions_lists_the_new_session_with_its_gpu(
    colab: Colab, client: OfficialClient, session: str
) -> None:
    line = f"[mine] {colab.endpoints[0]} | Hardware: T4 | Shape: Standard | Variant: GPU"
    assert line in client.run("sessions").stdout.splitlines()


def test_colab_status_says_that_it_is_idle(client: OfficialClient, session: str) -> None:
    assert "Status: IDLE" in client.run("status", "-s", session).stdout


def test_colab_exec_runs_a_cell_and_the_next_one_goes_on_in_the_same_kernel(
    client: OfficialClient, session: str
) -> None:
    client.run("exec", "-s", session, stdin="number = 6")
    done = client.run("exec", "-s", session, stdin="import os; print(os.getcwd(), number * 7)")
    assert done.stdout == "/content 42\n"


def test_colab_upload_ls_and_download_carry_a_file_there_and_back(
    client: OfficialClient, session: str
) -> None:
    sent, returned = client.home / "sent.bin", client.home / "returned.bin"
    sent.write_bytes(bytes(range(256)) * 1000)
    assert client.run("upload", "-s", session, str(sent), "content/there.bin").returncode == 0
    assert "there.bin" in client.run("ls", "-s", session).stdout.splitlines()
    assert client.run("download", "-s", session, "content/there.bin", str(returned)).returncode == 0
    assert returned.read_bytes() == sent.read_bytes()


def test_colab_usage_shows_the_balance_and_the_rate(client: OfficialClient, session: str) -> None:
    said = client.run("usage").stdout
    assert "Current balance: 12." in said
    assert "Usage rate: 1.20/hr" in said
    assert "Active assignments: 1" in said


def test_colab_run_ends_with_the_scripts_exit_code_and_gives_the_runtime_back(
    colab: Colab, client: OfficialClient, session: str
) -> None:
    (client.home / "script.py").write_text("import sys; print(sys.argv[1:]); sys.exit(3)")
    before = colab.endpoints
    done = client.run("run", "script.py", "--epochs", "5")
    assert (done.returncode, done.stdout) == (3, "['--epochs', '5']\n")
    assert colab.endpoints == before


def test_colab_new_explains_a_gpu_beyond_the_account_and_too_many_sessions(
    colab: Colab, client: OfficialClient, session: str
) -> None:
    assert "Backend rejected accelerator 'H100'" in client.run("new", "--gpu", "H100").stderr
    colab.faults.assign_statuses = [412]
    assert "too many active sessions" in client.run("new").stderr


def test_colab_new_gets_over_errors_of_the_front_end_and_stop_gives_the_runtime_back(
    colab: Colab, client: OfficialClient, session: str
) -> None:
    colab.faults.assign_statuses = [502, 503]
    assert client.run("new", "-s", "second").returncode == 0
    endpoint = colab.endpoints[-1]
    assert "Session terminated" in client.run("stop", "-s", "second").stdout
    assert colab.ended[endpoint] == "unassigned"


def test_colab_notices_that_a_session_was_reclaimed(colab: Colab, client: OfficialClient) -> None:
    assert client.run("new", "-s", "short").returncode == 0
    colab.reclaim()
    assert "Pruned 1 stale" in client.run("sessions").stdout


def test_a_python_is_found_or_fetched_that_can_run_the_client() -> None:
    command = official.newer_python()
    assert (official.version_of(command) or (0, 0)) >= official.NEEDED
