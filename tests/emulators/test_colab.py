"""The emulated Colab: what our own client needs is there, behaves as on Colab, and breaks as on Colab."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.plain import PREFIX, PlainClient, Runtime, notebook
from tests.emulators.colab.settings import Settings

MIB = 1 << 20


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    with Colab(Settings(max_sessions=3)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def client(colab: Colab) -> PlainClient:
    return PlainClient.of(colab)


@pytest.fixture(scope="module")
def runtime(client: PlainClient) -> Runtime:
    """One with a T4, for all tests that leave it as they found it."""
    return client.runtime("T4", runtime_version_label="2026.07")


def test_every_answer_of_the_notebook_host_is_guarded_against_other_sites(client: PlainClient) -> None:
    assert client.request("GET", "/tun/m/ccu-info").text.startswith(PREFIX)
    assert not client.request("GET", "/v1/user-info").text.startswith(PREFIX)


def test_a_wrong_account_token_is_refused_everywhere(colab: Colab) -> None:
    stranger = PlainClient(colab.url, "of somebody else")
    for path in ("/tun/m/assign", "/tun/m/assignments", "/tun/m/ccu-info", "/v1/user-info"):
        assert stranger.request("GET", path).status_code == 401


def test_a_runtime_needs_the_token_that_get_handed_out(client: PlainClient, colab: Colab) -> None:
    before = colab.endpoints
    wish = {"nbh": notebook(), "variant": "DEFAULT"}
    headers = {"X-Goog-Colab-Token": "guessed"}
    assert client.request("POST", "/tun/m/assign", params=wish, headers=headers).status_code == 403
    assert colab.endpoints == before


def test_a_notebook_has_one_runtime_however_often_it_asks(client: PlainClient, colab: Colab) -> None:
    nbh = notebook()
    first = client.runtime(nbh=nbh)
    again = client.runtime(nbh=nbh)
    assert (again.endpoint, again.url) == (first.endpoint, first.url)
    assert client.unassign(first.endpoint) == 200
    assert colab.ended[first.endpoint] == "unassigned"


def test_the_machine_looks_like_colab(runtime: Runtime) -> None:
    cell = runtime.execute(
        "import os, leaked_from_colab, google.colab\n"
        "print(os.getcwd(), os.environ['HOME'], os.environ['COLAB_GPU'], os.environ['COLAB_RELEASE_TAG'])\n"
        "print(os.listdir('/content'), os.path.ismount('/dev/shm'), os.listdir('/dev/shm'))"
    )
    first, second = cell.printed().splitlines()
    assert first == "/content /root 1 release-colab_2026.07"
    assert second.startswith("['sample_data'] True")


def test_a_fake_nvidia_smi_names_the_gpu_that_was_given(runtime: Runtime) -> None:
    query = "nvidia-smi --query-gpu=name,memory.total,compute_cap --format=csv,noheader,nounits"
    printed = runtime.execute(f"import os; print(os.popen('{query}').read(), os.popen('nvidia-smi').read())")
    assert printed.printed().splitlines()[0] == "Tesla T4, 15360, 7.5"
    assert "FAKE" in printed.printed()


def test_secrets_of_the_colab_page_are_out_of_reach(runtime: Runtime) -> None:
    assert (
        runtime.execute("from google.colab import userdata; userdata.get('HF')").error == "TimeoutException"
    )


def test_what_a_machine_writes_stays_there_and_the_hosts_folders_are_read_only(
    runtime: Runtime, tmp_path: Path
) -> None:
    cell = runtime.execute(
        "import pathlib\n"
        "for folder in ('/content', '/root', '/tmp', '/dev/shm'): pathlib.Path(folder, 'of-colab').touch()\n"
        f"print(pathlib.Path('{tmp_path}').exists())\n"
        "pathlib.Path('/usr/of-colab').touch()"
    )
    assert cell.printed() == "False\n"
    assert cell.error == "OSError"
    assert not any(Path(folder, "of-colab").exists() for folder in ("/content", "/root", "/tmp", "/dev/shm"))


def test_a_cells_output_comes_by_stream_and_in_order(runtime: Runtime) -> None:
    cell = runtime.execute("import sys\nprint('one', flush=True)\nprint('two', file=sys.stderr)\n1 / 0")
    kinds = [one["type"] for one in cell.messages]
    assert (cell.printed(), cell.printed("stderr")) == ("one\n", "two\n")
    assert cell.error == "ZeroDivisionError"
    assert kinds.index("status") < kinds.index("stream") < kinds.index("error")


def test_a_kernel_and_its_cell_survive_a_dropped_socket(runtime: Runtime) -> None:
    code = "import time\nprint('running', flush=True)\ntime.sleep(0.5)\nresult = 6 * 7"
    left = runtime.execute(code, leave_after="running")
    assert "running" in left.printed()
    assert "execute_reply" not in [one["type"] for one in left.messages]
    assert runtime.execute("print(result)", kernel=left.kernel).printed() == "42\n"


def test_thirty_megabytes_arrive_in_chunks(runtime: Runtime) -> None:
    blocks = [bytes([number]) * MIB for number in range(30)]
    for number, block in enumerate(blocks, start=1):
        assert runtime.put_chunk("content/bundle.tar", number if number < 30 else -1, block) in (200, 201)
    expected = hashlib.sha256(b"".join(blocks)).hexdigest()
    code = "import hashlib; print(hashlib.sha256(open('/content/bundle.tar', 'rb').read()).hexdigest())"
    assert runtime.execute(code).printed().strip() == expected


def test_a_growing_file_is_read_by_ranges(runtime: Runtime) -> None:
    kernel = runtime.execute(
        "log = open('/content/log', 'w'); print('0123456789', end='', file=log, flush=True)"
    ).kernel
    part = runtime.read("content/log", 4, 9)
    assert (part.status_code, part.content) == (206, b"456789")
    assert part.headers["Content-Range"] == "bytes 4-9/10"
    assert runtime.read("content/log", 10, 99).status_code == 416
    runtime.execute("print('abc', end='', file=log, flush=True)", kernel=kernel)
    assert runtime.read("content/log", 10, 99).content == b"abc"


def test_hidden_folders_are_out_of_the_contents_reach(runtime: Runtime) -> None:
    runtime.execute(
        "import os; os.makedirs('/content/.hidden/deep'); open('/content/.hidden/deep/file', 'w').write('x')"
    )
    assert runtime.read("content/.hidden/deep/file", 0, 9).status_code == 404
    assert runtime.request("GET", "/api/contents/content/.hidden/deep").status_code == 404
    assert runtime.put_chunk("content/.hidden/other", 1, b"x") == 400


def test_the_proxy_takes_its_token_from_the_header_or_the_address_and_nothing_else(runtime: Runtime) -> None:
    url = f"{runtime.url}/api/kernels"
    assert requests.get(url, timeout=9).status_code == 401
    assert (
        requests.get(url, headers={"Authorization": f"token {runtime.token}"}, timeout=9).status_code == 401
    )
    assert (
        requests.get(url, params={"colab-runtime-proxy-token": runtime.token}, timeout=9).status_code == 200
    )
    assert runtime.request("GET", "/api/kernels").status_code == 200


def test_ssh_is_not_there(runtime: Runtime) -> None:
    assert runtime.request("GET", "/colab/ssh").status_code == 404


def test_an_expired_proxy_token_is_renewed_by_listing_the_runtimes(
    colab: Colab, client: PlainClient, runtime: Runtime
) -> None:
    old = client.runtimes()[runtime.endpoint]
    colab.expire_tokens()
    assert old.request("GET", "/api/status").status_code == 401
    assert client.runtimes()[runtime.endpoint].request("GET", "/api/status").status_code == 200
