"""What goes wrong on the emulated Kaggle, and what its wire says then."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest
import requests

from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.plain import Plain
from tests.emulators.kaggle.sessions import wait_until
from tests.emulators.kaggle.settings import Answer, Settings

SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(3600)"


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    with Kaggle() as running:
        yield running


@pytest.fixture
def client(kaggle: Kaggle) -> Plain:
    return Plain(kaggle)


def test_a_cut_log_starts_again_from_its_first_line_and_nothing_is_lost_or_doubled(
    kaggle: Kaggle, client: Plain
) -> None:
    lines = 20_000
    kaggle.faults.cut_stream_after_s = 0.3
    code = f"import time\nfor n in range({lines}):\n    print('line', n)\n    n % 2000 or time.sleep(0.1)"
    client.push("many-lines", code)
    wait_until(lambda: client.status("many-lines")["status"] != "QUEUED")
    seen: list[str] = []
    connections = 0
    while not seen or seen[-1] != "END_OF_LOG":
        brought = client.follow("many-lines")
        assert brought[: len(seen)] == seen[: len(brought)]
        seen += brought[len(seen) :]
        connections += 1
    assert seen[:-1] == [f"line {n}\n" for n in range(lines)]
    assert connections > 1


def test_a_silent_log_is_cut(kaggle: Kaggle, client: Plain) -> None:
    kaggle.faults.cut_idle_stream_after_s = 0.3
    client.push("keeps-silent", SLEEPER)
    wait_until(lambda: client.status("keeps-silent")["status"] == "RUNNING")
    assert client.follow("keeps-silent") in ([], ["up\n"])


def test_the_log_can_be_asked_for_while_the_session_is_queued() -> None:
    with Kaggle(Settings(queue_wall_s=0.5)) as kaggle:
        client = Plain(kaggle)
        client.push("in-a-queue", "print('here')")
        assert client.status("in-a-queue") == {"status": "QUEUED"}
        named = {"userName": "alice", "kernelSlug": "in-a-queue"}
        reply = client.ask("GetKernelSessionLogsStream", **named, waitForLogsUrlSeconds=30)
        assert reply.headers["Content-Type"] == "text/event-stream"
        assert '"here\\n"' in reply.text
        assert reply.text.endswith("data: END_OF_LOG\n\n")


def test_versions_have_their_own_sessions_and_labels(kaggle: Kaggle, client: Plain) -> None:
    named = {"userName": "alice", "kernelSlug": "two-versions"}
    client.save("two-versions", "print('one')", kernelExecutionType="QUICK_SAVE")
    never = client.ask("GetKernelSessionStatus", **named)
    assert (never.status_code, never.json()["message"]) == (404, "No runs found")
    client.push("two-versions", "print('two')")
    kaggle.wait("COMPLETE")
    client.push("two-versions", "raise SystemExit(3)")
    kaggle.wait("ERROR")
    assert client.status("two-versions")["status"] == "ERROR"
    assert client.call("GetKernelSessionStatus", **named, versionLabel="v2") == {"status": "COMPLETE"}
    assert client.follow("two-versions", "?versionLabel=v2") == ["two\n", "END_OF_LOG"]
    assert client.ask("GetKernelSessionStatus", **named, versionLabel="2").status_code == 404


@pytest.mark.parametrize(
    ("asked", "got"),
    [("NvidiaTeslaT4", 2), ("NvidiaTeslaP100", 2), ("NvidiaH100", 2), ("NoSuchThing", 0), ("", 0)],
)
def test_no_accelerator_is_refused_but_another_may_be_given(
    kaggle: Kaggle, client: Plain, asked: str, got: int
) -> None:
    code = "import subprocess\nprint(subprocess.getoutput('nvidia-smi -L').count('FAKE Tesla T4'))"
    session = client.push("which-gpus", code, machineShape=asked)
    kaggle.wait("COMPLETE")
    assert f'"{got}\\n"' in session.log.array()


def test_a_push_that_is_not_valid_is_answered_with_200_and_an_error(kaggle: Kaggle, client: Plain) -> None:
    assert "Title" in client.save("four", "1")["error"]
    client.save("train-flowers", "1", kernelExecutionType="QUICK_SAVE")
    clash = {"newTitle": "Train  Flowers"}
    assert "already in use" in client.save("other-slug", "1", **clash)["error"]
    assert "kernel type" in client.save("train-flowers", "{}", kernelType="notebook")["error"]
    missing = client.save("wants-data", "1", datasetDataSources=["alice/no-such-data"])
    assert missing["invalidDatasetSources"] == ["alice/no-such-data"]
    own = client.save("wants-data", "1", kernelDataSources=["alice/wants-data"])
    assert own["invalidKernelSources"] == ["alice/wants-data"]
    stranger = Plain(kaggle, kaggle.account("bob").token())
    assert "docker image" in client.save("other-image", "1", dockerImage="ubuntu:22.04")["error"]
    assert stranger.ask("SaveKernel", slug="alice/train-flowers", text="1").status_code == 403
    assert client.ask("SaveKernel", slug="alice/train-flowers", txt="1").status_code == 400


def test_a_gpu_is_refused_without_quota_and_beyond_two_sessions(kaggle: Kaggle, client: Plain) -> None:
    gpu = {"machineShape": "NvidiaTeslaT4"}
    kaggle.alice.gpu_used_s = kaggle.alice.gpu_allowed_s
    assert "quota" in client.save("no-quota", "1", **gpu)["error"]
    kaggle.alice.gpu_used_s = 0.0
    client.push("first-one", SLEEPER, **gpu)
    client.push("second-one", SLEEPER, **gpu)
    assert "session count of 2" in client.save("third-one", "1", **gpu)["error"]
    client.push("on-a-cpu", "print(1)")
    kaggle.wait("COMPLETE")


def test_an_account_without_a_phone_has_no_internet(kaggle: Kaggle, client: Plain) -> None:
    kaggle.alice.phone_verified = False
    session = client.push("no-phone", "import os\nprint(os.listdir('/sys/class/net'))", enableInternet=True)
    kaggle.wait("COMPLETE")
    assert session.machine.internet is False
    shown = client.call("GetKernel", userName="alice", kernelSlug="no-phone")["metadata"]
    assert shown["enableInternet"] is False


def test_a_session_that_may_not_start_ends_in_an_error(kaggle: Kaggle, client: Plain) -> None:
    kaggle.faults.start_refused = "No machine is free."
    client.push("cannot-start", "print(1)")
    kaggle.wait("ERROR")
    assert client.status("cannot-start") == {"status": "ERROR", "failureMessage": "No machine is free."}


def test_too_many_requests_a_broken_server_and_a_lost_answer(kaggle: Kaggle, client: Plain) -> None:
    kaggle.faults.answers += [
        Answer("SaveKernel", status=429, retry_after_s=7),
        Answer("SaveKernel", status=503),
        Answer("SaveKernel"),
    ]
    named = {"slug": "alice/lost-answer", "newTitle": "lost-answer", "text": "print(1)", "language": "python"}
    busy = client.ask("SaveKernel", **named, kernelType="script")
    assert (busy.status_code, busy.headers["Retry-After"]) == (429, "7")
    assert client.ask("SaveKernel", **named, kernelType="script").status_code == 503
    assert kaggle.kernels.by_ref == {}
    with pytest.raises(requests.ConnectionError):
        client.ask("SaveKernel", **named, kernelType="script")
    found = client.call("ListKernels", search="lost-answer", group="PROFILE")["kernels"]
    assert [kernel["ref"] for kernel in found] == ["alice/lost-answer"]


def test_a_kernel_binds_the_version_that_was_ready_when_it_was_pushed(kaggle: Kaggle, client: Plain) -> None:
    client.dataset("model-data", {"step.txt": b"1"})
    kaggle.faults.dataset_stuck = True
    client.dataset("model-data", {"step.txt": b"2"})
    assert client.dataset_status("model-data") == "NOT_YET_PERSISTED"
    code = "print(open('/kaggle/input/model-data/step.txt').read())"
    early = client.push("reads-data", code, datasetDataSources=["alice/model-data"])
    kaggle.wait("COMPLETE")
    kaggle.datasets.by_ref["alice/model-data"].versions[-1].ready_at = 0.0
    late = client.push("reads-data", code, datasetDataSources=["alice/model-data"])
    kaggle.wait("COMPLETE")
    assert ['"1\\n"' in early.log.array(), '"2\\n"' in late.log.array()] == [True, True]


def test_archives_get_unpacked_and_neutral_names_stay(kaggle: Kaggle, client: Plain) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("inner.txt"))
    client.dataset("packed-data", {"code.tar": packed.getvalue(), "bundle.bin": packed.getvalue()})
    assert names(client, "packed-data") == ["bundle.bin", "code/inner.txt"]


def test_a_dataset_has_subfolders_and_its_files_come_in_pages(client: Plain) -> None:
    loose = [{"token": client.upload(f"{n}.bin", b"1")} for n in range(3)]
    folder = {"name": "inner", "files": [{"token": client.upload("a.bin", b"22")}], "directories": []}
    named = {"ownerSlug": "alice", "slug": "with-folders", "title": "with-folders", "licenseName": "other"}
    assert client.call("CreateDataset", **named, files=loose, directories=[folder])["status"] == "ok"
    assert names(client, "with-folders") == ["0.bin", "1.bin", "2.bin", "inner/a.bin"]
    assert client.call("CreateDataset", **named, files=loose)["error"]
    client.call("DeleteDataset", ownerSlug="alice", datasetSlug="with-folders")
    gone = client.ask("GetDatasetStatus", ownerSlug="alice", datasetSlug="with-folders")
    assert gone.status_code == 404


def names(client: Plain, slug: str) -> list[str]:
    """All files of a dataset, two a page."""
    found, token = [], ""
    while True:
        named = {"ownerSlug": "alice", "datasetSlug": slug}
        page = client.call("ListDatasetFiles", **named, pageSize=2, pageToken=token)
        found += [file["name"] for file in page["datasetFiles"]]
        token = page["nextPageToken"]
        if not token:
            return found


def test_an_upload_goes_on_where_it_was_cut(kaggle: Kaggle, client: Plain) -> None:
    data = bytes(range(256)) * 1000
    started = client.call("StartBlobUpload", type="DATASET", name="a.bin", contentLength=len(data))
    kaggle.faults.answers.append(Answer("upload", after_bytes=100_000))
    with pytest.raises(requests.ConnectionError):
        requests.put(started["createUrl"], data=data, timeout=10)
    probe = requests.put(
        started["createUrl"],
        headers={"Content-Range": f"bytes */{len(data)}"},
        timeout=10,
        allow_redirects=False,
    )
    assert (probe.status_code, probe.headers["Range"]) == (308, "bytes=0-99999")
    rest = {"Content-Range": f"bytes 100000-{len(data) - 1}/{len(data)}"}
    assert (
        requests.put(started["createUrl"], data=data[100_000:], headers=rest, timeout=10).status_code == 200
    )
    blob = kaggle.blobs.use("alice", started["token"])
    assert blob.path.read_bytes() == data


def test_a_download_goes_on_where_it_was_cut(kaggle: Kaggle, client: Plain) -> None:
    client.push("big-file", "open('big.bin', 'wb').write(bytes(300_000))")
    kaggle.wait("COMPLETE")
    url = client.outputs("big-file")["files"][0]["url"]
    kaggle.faults.answers.append(Answer("output", after_bytes=100_000))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url, timeout=10)
    assert len(requests.get(url, headers={"Range": "bytes=100000-"}, timeout=10).content) == 200_000


def test_outputs_beyond_the_limit_are_an_error_and_are_not_kept(kaggle: Kaggle, client: Plain) -> None:
    kaggle.settings.output_limit_bytes = 1000
    client.push("too-much", "open('big.bin', 'wb').write(bytes(1001))")
    kaggle.wait("ERROR")
    assert "disk space" in client.status("too-much")["failureMessage"]
    assert client.outputs("too-much")["files"] == []


def test_a_session_cancelled_in_the_queue_never_runs() -> None:
    with Kaggle(Settings(queue_wall_s=30)) as kaggle:
        client = Plain(kaggle)
        session = client.push("never-runs", SLEEPER)
        client.call("CancelKernelSession", kernelSessionId=session.id)
        kaggle.wait("CANCEL_ACKNOWLEDGED")
        assert session.process is None
        assert client.outputs("never-runs") == {"files": [], "log": "[\n]", "nextPageToken": ""}


def test_a_cancelled_session_is_saved_before_it_is_over() -> None:
    with Kaggle(Settings(save_wall_s=0.5)) as kaggle:
        client = Plain(kaggle)
        session = client.push("saves-late", SLEEPER)
        wait_until(lambda: "up" in session.log.array())
        client.call("CancelKernelSession", kernelSessionId=session.id)
        assert client.status("saves-late") == {"status": "CANCEL_REQUESTED"}
        assert client.outputs("saves-late")["log"] == ""
        kaggle.wait("CANCEL_ACKNOWLEDGED")


def test_replies_may_leave_out_what_has_its_default() -> None:
    with Kaggle(Settings(queue_wall_s=30, omit_defaults=True)) as kaggle:
        client = Plain(kaggle)
        client.push("all-defaults", SLEEPER)
        assert client.status("all-defaults") == {}


def test_an_expired_token_is_refused_everywhere(kaggle: Kaggle, client: Plain) -> None:
    client.push("goes-on", "print(1)")
    kaggle.alice.expire()
    assert client.ask("GetKernelSessionStatus", userName="alice", kernelSlug="goes-on").status_code == 401
    kaggle.wait("COMPLETE")
