"""The client of Kaggle's protocol: what it asks, what it makes of each answer, and when it stops asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.config import Config
from launcher.errors import AuthError, LauncherError, Refused, RemoteError, Unreachable
from launcher.targets.kaggle.api import KaggleAPI, KernelStatus, Listed, OutputFile, Push, credentials
from launcher.targets.kaggle.wire import Patience
from tests.emulators.kaggle.accounts import Account
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.plain import Plain, notebook
from tests.emulators.kaggle.settings import Answer, Settings

TEXT = notebook("print('hello')")


@pytest.fixture(scope="module")
def shared() -> Iterator[Kaggle]:
    """Sessions stay in the queue: what is asked here needs none that runs."""
    with Kaggle(Settings(queue_wall_s=3600)) as running:
        yield running


@pytest.fixture
def kaggle(shared: Kaggle) -> Iterator[Kaggle]:
    yield shared
    shared.faults.answers.clear()
    shared.faults.dataset_stuck = shared.faults.dataset_failed = False
    shared.settings.omit_defaults = False
    shared.settings.signed_url_wall_s = 3600.0
    shared.alice.gpu_used_s = 0.0
    for session in shared.sessions:
        session.cancel()
    for session in shared.sessions:
        session.join()
    shared.asked.clear()


@pytest.fixture
def waits() -> list[float]:
    return []


def client(kaggle: Kaggle, account: Account, waits: list[float]) -> KaggleAPI:
    variables = {**kaggle.environment, "KAGGLE_API_TOKEN": account.token()}
    return KaggleAPI(kaggle.url, credentials(Config(variables)), Patience(sleep=waits.append))


@pytest.fixture
def api(kaggle: Kaggle, waits: list[float]) -> KaggleAPI:
    return client(kaggle, kaggle.alice, waits)


def push(api: KaggleAPI, name: str, **more: Any) -> Any:
    return api.save_kernel(Push(name, name.rpartition("/")[2], TEXT, **more))


def dataset(api: KaggleAPI, path: Path, name: str, *more: bytes) -> list[str]:
    """Tokens of uploaded files."""
    tokens = []
    for number, data in enumerate(more or (b"1",)):
        (path / "file").write_bytes(data)
        upload = api.upload(path / "file", f"{number}.bin")
        while True:
            try:
                next(upload)
            except StopIteration as end:
                tokens.append(end.value)
                break
    return tokens


def count(kaggle: Kaggle, call: str) -> int:
    return [one for one, _ in kaggle.asked].count(call)


# creating


def test_a_notebook_is_saved_and_found_again(kaggle: Kaggle, api: KaggleAPI) -> None:
    saved = push(api, "train-flowers", accelerator="NvidiaTeslaT4", timeout_s=3600, internet=False)
    assert (saved.slug, saved.version, saved.missing) == ("alice/train-flowers", 1, ())
    assert push(api, "alice/train-flowers").version == 2
    found = api.kernel("train-flowers")
    assert found is not None
    assert (found["currentVersionNumber"], found["ref"]) == (2, "alice/train-flowers")
    assert api.kernel_status("alice/train-flowers", 1) == KernelStatus("QUEUED")
    assert Listed("alice/train-flowers", "train-flowers") in api.kernels()


def test_a_dataset_gets_versions_and_says_which_files_a_notebook_would_see(
    kaggle: Kaggle, api: KaggleAPI, tmp_path: Path
) -> None:
    assert api.dataset_status("flowers-data") is None
    assert api.dataset_files("flowers-data") == {}
    api.create_dataset("flowers-data", "flowers-data", dataset(api, tmp_path, "flowers-data", b"1", b"22"))
    assert api.dataset_status("flowers-data") == "READY"
    assert api.dataset_files("flowers-data") == {"0.bin": 1, "1.bin": 2}
    kaggle.faults.dataset_stuck = True
    api.create_dataset_version("flowers-data", "resume", dataset(api, tmp_path, "flowers-data", b"333"))
    assert api.dataset_status("flowers-data") == "NOT_YET_PERSISTED"
    assert api.dataset_files("flowers-data") == {}
    version = kaggle.datasets.by_ref["alice/flowers-data"].versions[-1]
    version.ready_at, version.failed = 0.0, True
    assert api.dataset_status("flowers-data") == "FAILED"
    assert Listed("alice/flowers-data", "flowers-data") in api.datasets("flowers")


Create = Callable[[KaggleAPI, Path, str], object]
CREATES: dict[str, Create] = {
    "SaveKernel": lambda api, path, name: push(api, name),
    "CreateDataset": lambda api, path, name: api.create_dataset(name, name, dataset(api, path, name)),
    "CreateDatasetVersion": lambda api, path, name: (
        api.create_dataset(name, name, dataset(api, path, name)),
        api.create_dataset_version(name, "more", dataset(api, path, name)),
    ),
}


@pytest.mark.parametrize("call", CREATES)
@pytest.mark.parametrize(
    "answer", [Answer("", 0), Answer("", 503), Answer("", 500)], ids=["lost", "503", "500"]
)
def test_what_creates_something_is_never_sent_twice(
    kaggle: Kaggle, api: KaggleAPI, tmp_path: Path, call: str, answer: Answer
) -> None:
    kaggle.faults.answers.append(Answer(call, answer.status))
    with pytest.raises(Unreachable):
        CREATES[call](api, tmp_path, f"created-{call.lower()}-{answer.status}")
    assert count(kaggle, call) == 1


def test_after_a_lost_answer_it_is_found_by_its_name(kaggle: Kaggle, api: KaggleAPI, tmp_path: Path) -> None:
    tokens = dataset(api, tmp_path, "lost-answer")
    kaggle.faults.answers += [Answer("SaveKernel"), Answer("CreateDataset")]
    with pytest.raises(Unreachable):
        push(api, "lost-answer")
    found = api.kernel("lost-answer")
    assert found is not None
    assert found["currentVersionNumber"] == 1
    with pytest.raises(Unreachable):
        api.create_dataset("lost-answer", "lost-answer", tokens)
    assert api.dataset_status("lost-answer") == "READY"


@pytest.mark.parametrize("call", CREATES)
def test_a_429_did_nothing_so_even_a_create_waits_as_long_as_it_is_told(
    kaggle: Kaggle, api: KaggleAPI, tmp_path: Path, waits: list[float], call: str
) -> None:
    kaggle.faults.answers.append(Answer(call, status=429, retry_after_s=7))
    CREATES[call](api, tmp_path, f"busy-{call.lower()}")
    assert waits == [7.0]
    assert count(kaggle, call) == 2


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "quota": ({"accelerator": "NvidiaTeslaT4"}, "You have exceeded your weekly GPU quota."),
    "an image": ({"image": "ubuntu:22.04"}, "is not one of Kaggle's"),
    "a title": ({"title": "abc"}, "Title must be between 5 and 50 characters"),
    "the text": ({"text": "no notebook"}, "not valid JSON"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_notebook_that_kaggle_refuses_is_refused_in_its_words(
    kaggle: Kaggle, api: KaggleAPI, kind: str
) -> None:
    more, words = REFUSALS[kind]
    kaggle.alice.gpu_used_s = 30 * 3600
    with pytest.raises(Refused, match="Kaggle does not take the notebook") as caught:
        api.save_kernel(Push(**{"slug": "is-refused", "title": "is-refused", "text": TEXT, **more}))
    assert words in caught.value.message
    assert api.kernel("is-refused") is None


def test_too_many_sessions_are_refused(kaggle: Kaggle, api: KaggleAPI) -> None:
    for name in ("gpu-one", "gpu-two"):
        push(api, name, accelerator="NvidiaTeslaT4")
    with pytest.raises(Refused, match="Maximum batch GPU session count of 2 reached"):
        push(api, "gpu-three", accelerator="NvidiaTeslaT4")


def test_a_slug_that_is_taken_and_one_that_is_none_are_refused(api: KaggleAPI, tmp_path: Path) -> None:
    tokens = dataset(api, tmp_path, "is-taken")
    api.create_dataset("is-taken", "is-taken", tokens)
    with pytest.raises(Refused, match="already in use"):
        api.create_dataset("is-taken", "is-taken", tokens)
    with pytest.raises(Refused, match="between 6 and 50"):
        api.create_dataset("abc", "a good title", tokens)
    with pytest.raises(Refused, match="unknown or its file is not complete"):
        api.create_dataset("no-such-file", "no-such-file", ["token"])


def test_sources_that_kaggle_did_not_find_are_named(api: KaggleAPI) -> None:
    saved = push(api, "lacks-sources", datasets=("alice/nowhere-1",), kernels=("alice/nowhere-2",))
    assert saved.missing == ("alice/nowhere-1", "alice/nowhere-2")


def test_an_account_without_a_verified_phone_is_seen_by_the_internet_it_does_not_get(
    kaggle: Kaggle, api: KaggleAPI
) -> None:
    kaggle.alice.phone_verified = False
    try:
        push(api, "no-internet", internet=True)
        found = api.kernel("no-internet")
    finally:
        kaggle.alice.phone_verified = True
    assert found is not None
    assert found["enableInternet"] is False


def test_a_session_that_never_starts_says_why(kaggle: Kaggle, api: KaggleAPI) -> None:
    kaggle.faults.start_refused = "No machine\nis free."
    try:
        push(api, "never-starts")
        kaggle.sessions[-1].cancel()
        kaggle.wait("ERROR")
    finally:
        kaggle.faults.start_refused = ""
    assert api.kernel_status("never-starts", 1) == KernelStatus("ERROR", "No machine is free.")


def test_a_place_that_is_somebody_elses_is_said(kaggle: Kaggle, api: KaggleAPI, tmp_path: Path) -> None:
    kaggle.account("bob")
    with pytest.raises(AuthError, match="does not let alice make the notebook"):
        push(api, "bob/train-flowers")
    with pytest.raises(AuthError, match="does not let alice make the dataset's new version"):
        api.create_dataset_version("bob/flowers-data", "more", dataset(api, tmp_path, "flowers-data"))


# looking


def test_what_is_not_there_is_none(api: KaggleAPI) -> None:
    assert api.kernel("not-there") is None
    assert api.kernel_status("not-there") is None
    assert api.dataset_status("not-there") is None
    assert api.outputs("not-there") == []


def test_what_is_not_mine_is_not_taken_for_gone(
    kaggle: Kaggle, api: KaggleAPI, tmp_path: Path, waits: list[float]
) -> None:
    bob = client(kaggle, kaggle.account("bob"), waits)
    push(bob, "bobs-notebook")
    bob.create_dataset("bobs-dataset", "bobs-dataset", dataset(bob, tmp_path, "bobs-dataset"))
    for look in (api.kernel_status, api.kernel, api.delete_kernel):
        with pytest.raises(AuthError, match="does not let alice see bob/bobs-notebook"):
            look("bob/bobs-notebook")
    for look in (api.dataset_status, api.delete_dataset):
        with pytest.raises(AuthError, match="does not let alice see bob/bobs-dataset"):
            look("bob/bobs-dataset")


@pytest.mark.parametrize("call", ["GetKernelSessionStatus", "ListKernels"])
def test_a_403_for_what_is_there_is_not_taken_for_gone(kaggle: Kaggle, api: KaggleAPI, call: str) -> None:
    push(api, "still-there")
    kaggle.faults.answers += [Answer("GetKernelSessionStatus", 403)]
    if call == "ListKernels":
        kaggle.faults.answers += [Answer("ListKernels", 403)]
    with pytest.raises(AuthError, match="does not let alice see alice/still-there"):
        api.kernel_status("still-there")


def test_fields_that_have_their_defaults_may_be_left_out(
    kaggle: Kaggle, api: KaggleAPI, tmp_path: Path
) -> None:
    push(api, "all-defaults")
    kaggle.faults.dataset_stuck = True
    api.create_dataset("all-defaults", "all-defaults", dataset(api, tmp_path, "all-defaults"))
    kaggle.settings.omit_defaults = True
    assert api.kernel_status("all-defaults") == KernelStatus("QUEUED")
    assert api.dataset_status("all-defaults") == "NOT_YET_PERSISTED"


@pytest.mark.parametrize(
    "answer",
    [
        Answer("GetKernelSessionStatus", 0),
        *(Answer("GetKernelSessionStatus", n) for n in (429, 500, 502, 503)),
    ],
    ids=lambda answer: str(answer.status),
)
def test_a_look_is_repeated_until_there_is_an_answer(
    kaggle: Kaggle, api: KaggleAPI, waits: list[float], answer: Answer
) -> None:
    push(api, "looked-at")
    kaggle.faults.answers.append(Answer(answer.call, answer.status, times=3))
    assert api.kernel_status("looked-at") == KernelStatus("QUEUED")
    assert waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("status", [0, 429, 503])
def test_a_kaggle_that_never_answers_is_unreachable(
    kaggle: Kaggle, api: KaggleAPI, waits: list[float], status: int
) -> None:
    kaggle.faults.answers.append(Answer("GetAcceleratorQuotaStatistics", status, times=99))
    with pytest.raises(Unreachable) as caught:
        api.quota()
    assert len(waits) == 4
    assert "\n" not in caught.value.message


def test_a_wait_that_is_too_long_is_told_and_not_kept(
    kaggle: Kaggle, api: KaggleAPI, waits: list[float]
) -> None:
    kaggle.faults.answers.append(Answer("GetDatasetStatus", 429, retry_after_s=3600, times=99))
    with pytest.raises(Unreachable, match="asks us to wait for 3600 s"):
        api.dataset_status("looked-at")
    assert waits == []


def test_no_network_is_one_clear_line(kaggle: Kaggle, waits: list[float]) -> None:
    found = credentials(Config(kaggle.environment))
    with pytest.raises(Unreachable) as caught:
        KaggleAPI("http://127.0.0.1:1", found, Patience(sleep=waits.append)).user()
    assert caught.value.message == "no answer from 127.0.0.1:1: Connection refused"
    with pytest.raises(Unreachable, match=r"no answer from kaggle\.invalid"):
        KaggleAPI("https://kaggle.invalid", found, Patience(sleep=waits.append)).user()


def test_all_pages_of_a_listing_are_read(kaggle: Kaggle, api: KaggleAPI) -> None:
    for number in range(105):
        Plain(kaggle).save(f"one-of-many-{number}", "1", kernelExecutionType="QUICK_SAVE")
    found = api.kernels("one-of-many")
    assert {one.slug for one in found} == {f"alice/one-of-many-{number}" for number in range(105)}
    assert len(found) == 105


# stopping


def test_a_session_is_cancelled_by_who_started_it_and_as_often_as_wanted(
    kaggle: Kaggle, api: KaggleAPI, waits: list[float]
) -> None:
    push(api, "to-be-cancelled")
    number = kaggle.sessions[-1].id
    with pytest.raises(AuthError, match=f"only the account that started session {number}"):
        client(kaggle, kaggle.account("bob"), waits).cancel(number)
    assert api.cancel(number) == ""
    kaggle.wait("CANCEL_ACKNOWLEDGED")
    assert api.cancel(number) == "The session is not running."
    status = api.kernel_status("to-be-cancelled")
    assert status is not None
    assert status.over


def test_deleting_may_be_repeated(kaggle: Kaggle, api: KaggleAPI, tmp_path: Path) -> None:
    push(api, "to-be-deleted")
    api.create_dataset("to-be-deleted", "to-be-deleted", dataset(api, tmp_path, "to-be-deleted"))
    kaggle.faults.answers += [Answer("DeleteKernel"), Answer("DeleteDataset")]
    assert api.delete_kernel("to-be-deleted") is False  # the answer was lost, and then it was gone
    assert api.delete_dataset("to-be-deleted") is False
    assert api.kernel("to-be-deleted") is None
    assert api.dataset_status("to-be-deleted") is None


# what a session left


@pytest.fixture(scope="module")
def ended() -> Iterator[Kaggle]:
    """A session that has left 450 files."""
    with Kaggle() as running:
        code = "for n in range(449): open(f'{n:03}.txt', 'w').write(str(n))"
        code += "\nopen('z.bin', 'wb').write(bytes(range(250)) * 1000)"
        session = Plain(running).push("left-files", code)
        running.wait("COMPLETE", session, 120)
        yield running


@pytest.fixture
def left(ended: Kaggle, waits: list[float]) -> Iterator[KaggleAPI]:
    yield client(ended, ended.alice, waits)
    ended.faults.answers.clear()
    ended.settings.signed_url_wall_s = 3600.0


DATA = bytes(range(250)) * 1000


def file(api: KaggleAPI) -> OutputFile:
    return api.outputs("left-files", 1)[-1]


def test_all_pages_of_outputs_are_listed_without_the_log_in_each(ended: Kaggle, left: KaggleAPI) -> None:
    ended.faults.answers.append(Answer("ListKernelSessionOutput", 503))
    found = left.outputs("left-files", 1)
    assert [one.name for one in found] == [*(f"{n:03}.txt" for n in range(449)), "z.bin"]
    assert b"".join(left.read(found[7].url)) == b"7"


def test_any_part_of_an_output_is_read(left: KaggleAPI) -> None:
    url = file(left).url
    assert b"".join(left.read(url)) == DATA
    assert b"".join(left.read(url, 249_990)) == DATA[249_990:]
    assert b"".join(left.read(url, 1000, 500)) == DATA[1000:1500]
    assert b"".join(left.read(url, 249_000, 5000)) == DATA[249_000:]
    for offset, length in ((250_000, None), (999_999, None), (5, 0), (250_000, 10)):
        assert b"".join(left.read(url, offset, length)) == b""


def test_a_download_goes_on_after_each_cut(ended: Kaggle, left: KaggleAPI, waits: list[float]) -> None:
    url = file(left).url
    ended.faults.answers += [Answer("output", after_bytes=20_000, times=9), Answer("output", 503)]
    assert b"".join(left.read(url)) == DATA
    ended.faults.answers += [Answer("output", 429, retry_after_s=3), Answer("output", after_bytes=100)]
    waits.clear()
    assert b"".join(left.read(url, 100, 1000)) == DATA[100:1100]
    assert waits[0] == 3.0


def test_a_download_that_never_comes_on_is_given_up(ended: Kaggle, left: KaggleAPI) -> None:
    url = file(left).url
    ended.faults.answers.append(Answer("output", after_bytes=0, times=99))
    with pytest.raises(Unreachable) as caught:
        list(left.read(url))
    assert "sig=" not in caught.value.message


def test_an_address_whose_time_is_over_says_so_and_a_fresh_one_works(ended: Kaggle, left: KaggleAPI) -> None:
    ended.settings.signed_url_wall_s = -1.0
    with pytest.raises(RemoteError) as caught:
        list(left.read(file(left).url))
    assert caught.value.code == "expired"
    ended.settings.signed_url_wall_s = 3600.0
    assert b"".join(left.read(file(left).url)) == DATA


def test_a_file_that_changed_in_the_middle_is_not_patched_together(ended: Kaggle, left: KaggleAPI) -> None:
    session = ended.sessions[-1]
    assert session.outputs is not None
    path = session.outputs / "000.txt"
    path.write_bytes(b"a" * 100_000)
    url = left.outputs("left-files")[0].url
    ended.faults.answers.append(Answer("output", after_bytes=70_000))
    pieces = left.read(url)
    assert next(pieces)
    path.write_bytes(b"b" * 100_000)
    with pytest.raises(RemoteError) as caught:
        list(pieces)
    path.write_bytes(b"0")
    assert caught.value.code == "changed"


# the account


def test_the_quota_is_in_hours(kaggle: Kaggle, api: KaggleAPI) -> None:
    kaggle.alice.gpu_used_s = 27 * 3600
    gpu, tpu = api.quota("mine")
    assert (gpu.target, gpu.what, gpu.unit, gpu.used, gpu.total, gpu.left) == (
        "mine",
        "GPU",
        "hours",
        27,
        30,
        3,
    )
    assert gpu.refreshes_at.endswith("Z")
    assert (tpu.what, tpu.left) == ("TPU", 20)


@pytest.mark.parametrize(
    "call", ["GetKernel", "SaveKernel", "StartBlobUpload", "GetAcceleratorQuotaStatistics"]
)
def test_an_expired_token_is_said_wherever_it_is_found_out(
    kaggle: Kaggle, tmp_path: Path, waits: list[float], call: str
) -> None:
    carol = kaggle.account("carol")
    api = client(kaggle, carol, waits)
    assert api.user() == "carol"
    carol.expire()
    asks: dict[str, Callable[[], object]] = {
        "GetKernel": lambda: api.kernel("a-kernel"),
        "SaveKernel": lambda: push(api, "a-kernel"),
        "StartBlobUpload": lambda: dataset(api, tmp_path, "a"),
        "GetAcceleratorQuotaStatistics": api.quota,
    }
    with pytest.raises(AuthError, match="no longer accepts the token in KAGGLE_API_TOKEN"):
        asks[call]()


def test_errors_are_launchers_own(kaggle: Kaggle, api: KaggleAPI) -> None:
    kaggle.faults.answers.append(Answer("GetKernel", 418, message="I\x1b[31m am\na teapot"))
    with pytest.raises(LauncherError) as caught:
        api.kernel("a-kernel")
    assert caught.value.message == "Kaggle's GetKernel failed with 418: I [31m am a teapot"
