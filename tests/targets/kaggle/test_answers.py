"""Answers that no honest Kaggle gives: one clear line each, in bounded memory, and no secret in it."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import AuthError, LauncherError, Refused, RemoteError, Unreachable
from launcher.targets.kaggle import lean
from launcher.targets.kaggle.api import KaggleAPI, KernelStatus, Push
from launcher.targets.kaggle.auth import Credentials, OAuthFile, Token
from launcher.targets.kaggle.wire import Patience
from tests.targets.kaggle.scripted import KEY, Reply, Scripted, of

HTML = Reply(b"<html><title>Sign in</title></html>", 200, {"Content-Type": "text/html"})
CALLS: dict[str, tuple[str, Callable[[KaggleAPI], object]]] = {
    "status": ("GetKernelSessionStatus", lambda api: api.kernel_status("job")),
    "kernel": ("GetKernel", lambda api: api.kernel("job")),
    "kernels": ("ListKernels", lambda api: api.kernels()),
    "outputs": ("ListKernelSessionOutput", lambda api: api.outputs("job")),
    "push": ("SaveKernel", lambda api: api.save_kernel(Push("job", "job", "{}"))),
    "dataset": ("GetDatasetStatus", lambda api: api.dataset_status("job")),
    "files": ("ListDatasetFiles", lambda api: api.dataset_files("job")),
    "create": ("CreateDataset", lambda api: api.create_dataset("job", "job", ["t"])),
    "cancel": ("CancelKernelSession", lambda api: api.cancel(7)),
    "quota": ("GetAcceleratorQuotaStatistics", lambda api: api.quota()),
}
WRONG = {
    "a page for people": HTML,
    "nothing": Reply(b"", 200, {"Content-Type": "application/json", "Content-Length": "0"}),
    "half": Reply(b'{"status": "RUN', 200),
    "a list": of([{"status": "RUNNING"}]),
    "a text": of("RUNNING"),
    "null": of(None),
    "deep": Reply(b"[" * 100_000, 200),
    "a long number": Reply(b'{"status": ' + b"9" * 10_000 + b"}", 200),
    "bytes": Reply(bytes(range(256)) * 10, 200),
}


def line(error: LauncherError) -> str:
    """The message, which is one line that people can read and holds no secret."""
    shown = f"{error.message} {error.hint}"
    assert shown.isprintable()
    assert KEY not in shown
    assert len(shown) < 700
    return error.message


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_json_object_is_one_clear_line(call: str, kind: str) -> None:
    method, ask = CALLS[call]
    with Scripted(**{method: [WRONG[kind]]}) as server:
        with pytest.raises(RemoteError, match="no JSON object") as caught:
            ask(server.api())
        assert len(server.asked) == 1
    assert method in line(caught.value)


TYPES: dict[str, tuple[str, object]] = {
    "a status": ("status", {"status": 7}),
    "a failure": ("status", {"status": "ERROR", "failureMessage": ["x"]}),
    "metadata": ("kernel", {"metadata": "x"}),
    "rows": ("kernels", {"kernels": {"ref": "x"}}),
    "a row": ("kernels", {"kernels": ["x"]}),
    "a name": ("kernels", {"kernels": [{"ref": 7}]}),
    "files": ("outputs", {"files": 7}),
    "an address": ("outputs", {"files": [{"fileName": "a", "url": None, "x": 1}, {"fileName": 1}]}),
    "a token": ("outputs", {"files": [], "nextPageToken": 7}),
    "a version": ("push", {"versionNumber": "three"}),
    "a negative version": ("push", {"versionNumber": -1}),
    "no version": ("push", {"ref": "/code/alice/job"}),
    "sources": ("push", {"versionNumber": 1, "invalidDatasetSources": [1]}),
    "a size": ("files", {"datasetFiles": [{"name": "a", "totalBytes": 1.5}]}),
    "a dataset's status": ("dataset", {"status": False}),
    "a quota": ("quota", {"gpuQuota": [1]}),
    "a duration": ("quota", {"gpuQuota": {"totalTimeAllowed": "many"}}),
    "a long duration": ("quota", {"gpuQuota": {"totalTimeAllowed": "9" * 400 + "s"}}),
    "an error": ("create", {"error": {"x": 1}}),
}


@pytest.mark.parametrize("kind", TYPES)
def test_a_field_of_a_wrong_type_is_one_clear_line(kind: str) -> None:
    call, reply = TYPES[kind]
    method, ask = CALLS[call]
    with Scripted(**{method: [of(reply)]}) as server:
        with pytest.raises(RemoteError) as caught:
            ask(server.api())
    assert line(caught.value).startswith("Kaggle")


def test_large_numbers_may_come_as_texts() -> None:
    with Scripted(
        ListDatasetFiles=[of({"datasetFiles": [{"name": "a", "totalBytes": "5000000000"}]})]
    ) as server:
        assert server.api().dataset_files("job") == {"a": 5_000_000_000}


def test_an_error_inside_an_http_200_is_an_error() -> None:
    inside = of({"code": 404, "message": "No runs found"})
    with Scripted(
        GetKernelSessionStatus=[inside], SaveKernel=[of({"code": 400, "message": "bad"})]
    ) as server:
        assert server.api().kernel_status("job") is None
        with pytest.raises(Refused, match="does not take the notebook: bad"):
            server.api().save_kernel(Push("job", "job", "{}"))


def test_a_refusal_without_a_reason_is_a_refusal() -> None:
    with Scripted(CreateDataset=[of({"status": "error"})]) as server:
        with pytest.raises(Refused, match="no reason given"):
            server.api().create_dataset("job", "job", ["t"])


def test_words_of_the_other_side_are_one_tame_short_line() -> None:
    failure = "\x1b]0;title\x07" + "line\r\n\u202e" * 1000
    with Scripted(GetKernelSessionStatus=[of({"status": "ERROR", "failureMessage": failure})]) as server:
        status = server.api().kernel_status("job")
    assert status is not None
    assert status.failure.isprintable()
    assert len(status.failure) == 300


def test_a_state_that_is_not_known_yet_is_handed_on() -> None:
    with Scripted(GetKernelSessionStatus=[of({"status": "NEW_SCRIPT"})]) as server:
        assert server.api().kernel_status("job") == KernelStatus("NEW_SCRIPT")


# sizes and times


def endless(start: bytes, more: bytes) -> Iterator[bytes]:
    return itertools.chain([start], itertools.repeat(more))


@pytest.mark.parametrize("call", ["status", "outputs"])
def test_an_answer_without_an_end_is_given_up(call: str) -> None:
    method, ask = CALLS[call]
    with Scripted(**{method: [Reply(endless(b'{"status": "', b"x" * 65536))]}) as server:
        with pytest.raises(RemoteError, match="more than 32 MiB") as caught:
            ask(server.api())
        assert server.sent_bytes < 64 << 20
    line(caught.value)


def test_an_error_without_an_end_is_given_up() -> None:
    with Scripted(GetKernel=[Reply(endless(b"", b"x" * 65536), 418)]) as server:
        with pytest.raises(RemoteError) as caught:
            server.api().kernel("job")
        assert server.sent_bytes < 16 << 20
    assert line(caught.value) == "Kaggle's GetKernel failed with 418"


def test_a_log_of_any_size_does_not_hide_the_outputs_and_is_not_held() -> None:
    more = json.dumps('a "line" of a log\n')[1:-1].encode() * 5000
    pieces = [b'{"log": "', *itertools.repeat(more, 1000), b'", "files": [{"fileName": "a", "url": "u"}]}']
    assert sum(map(len, pieces)) > 100 << 20
    with Scripted(ListKernelSessionOutput=[Reply(pieces)]) as server:
        tracemalloc.start()
        try:
            found = server.api().outputs("job")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert [(one.name, one.url) for one in found] == [("a", "u")]
    assert peak < 32 << 20


def test_pages_without_an_end_are_given_up() -> None:
    with Scripted(ListKernelSessionOutput=[of({"files": [], "nextPageToken": "again"})]) as server:
        with pytest.raises(RemoteError, match="pages without end"):
            server.api().outputs("job")
        assert len(server.asked) < 5


def test_a_listing_that_repeats_itself_ends() -> None:
    with Scripted(ListKernels=[of({"kernels": [{"ref": "alice/one", "title": "one"}]})]) as server:
        assert [one.slug for one in server.api().kernels()] == ["alice/one"]


def test_a_date_to_come_back_is_kept_like_seconds() -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    busy = Reply(b"", 429, {"Retry-After": date, "Content-Length": "0"})
    with Scripted(GetKernelSessionStatus=[busy, of({"status": "RUNNING"})]) as server:
        assert server.api().kernel_status("job") == KernelStatus("RUNNING")
        assert 20 < server.waits[0] <= 31


@pytest.mark.parametrize("said", ["nan", "-5", "soon", "inf", "1e999", "", "Mon, 99 Foo"])
def test_a_nonsense_wait_is_neither_for_ever_nor_an_error(said: str) -> None:
    busy = Reply(b"", 429, {"Retry-After": said, "Content-Length": "0"})
    with Scripted(GetKernelSessionStatus=[busy, of({"status": "RUNNING"})]) as server:
        try:
            assert server.api().kernel_status("job") == KernelStatus("RUNNING")
        except Unreachable as error:
            assert said in ("inf", "1e999")
            line(error)
        assert all(0 <= wait <= 120 for wait in server.waits)


# other places


def test_an_answer_that_leads_elsewhere_gets_no_secret_of_ours() -> None:
    with Scripted(
        elsewhere=[Reply([b"data: END_OF_LOG\n"], 200, {"Content-Type": "text/event-stream"})]
    ) as other:
        there = Reply(b"", 302, {"Location": f"{other.url}/elsewhere", "Content-Length": "0"})
        with Scripted(job=[there]) as server:
            assert list(server.api().log_events("job")) == []
            assert "Authorization" in server.asked[0][1]
        assert "Authorization" not in other.asked[0][1]


def test_a_download_gets_no_secret_neither_of_ours_nor_of_the_users_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login eve password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Scripted(file=[whole()]) as server:
        assert b"".join(server.api().read(f"{server.url}/file")) == DATA
        assert "Authorization" not in server.asked[0][1]


@pytest.mark.parametrize("where", ["http://example.com/log", "ftp://example.com/", "file:///etc/passwd"])
def test_an_answer_that_leads_to_an_unsafe_place_is_not_followed(where: str) -> None:
    there = Reply(b"", 302, {"Location": where, "Content-Length": "0"})
    with Scripted(job=[there], file=[there]) as server:
        with pytest.raises(RemoteError, match="not https"):
            list(server.api().log_events("job"))
        with pytest.raises(RemoteError, match="not https"):
            list(server.api().read(f"{server.url}/file"))


def test_an_answer_that_leads_round_in_circles_is_left() -> None:
    with Scripted(job=[Reply(b"", 302, {"Location": "job", "Content-Length": "0"})]) as server:
        with pytest.raises(RemoteError, match="round in circles"):
            list(server.api().log_events("job"))
        assert len(server.asked) < 10


def test_a_call_that_is_sent_elsewhere_is_no_answer() -> None:
    there = Reply(b"", 302, {"Location": "other", "Content-Length": "0"})
    with Scripted(SaveKernel=[there], other=[of({"versionNumber": 1})]) as server:
        with pytest.raises(Refused, match="HTTP 302"):
            server.api().save_kernel(Push("job", "job", "{}"))
        assert len(server.asked) == 1


# downloads


DATA = bytes(range(256)) * 40


def part(start: int, data: bytes, total: object = len(DATA), **headers: str) -> Reply:
    span = f"bytes {start}-{start + len(data) - 1}/{total}"
    return Reply(data, 206, {"Content-Range": span, "Content-Length": str(len(data)), **headers})


def whole(data: bytes = DATA, **headers: str) -> Reply:
    return Reply(data, 200, {"Content-Length": str(len(data)), **headers})


def fetched(offset: int, length: int | None, *replies: Reply) -> bytes:
    with Scripted(file=replies) as server:
        return b"".join(server.api().read(f"{server.url}/file?signature=abc", offset, length))


def test_a_storage_that_knows_no_ranges_is_read_from_its_start() -> None:
    assert fetched(1000, 200, whole()) == DATA[1000:1200]
    assert fetched(20_000, None, whole()) == b""
    cut = Reply(DATA[:500], 200, {"Content-Length": str(len(DATA))})
    assert fetched(100, None, cut, cut, whole()) == DATA[100:]


def test_a_storage_that_sends_smaller_parts_is_asked_for_the_rest() -> None:
    assert (
        fetched(0, 3000, part(0, DATA[:1000]), part(1000, DATA[1000:1500]), part(1500, DATA[1500:]))
        == DATA[:3000]
    )
    assert (
        fetched(10_000, None, part(10_000, DATA[10_000:10_100]), part(10_100, DATA[10_100:])) == DATA[10_000:]
    )


def test_more_than_was_asked_for_is_cut_off() -> None:
    assert fetched(5, 10, part(5, DATA[5:])) == DATA[5:15]


BAD_PARTS = {
    "another place": part(7, DATA[7:100]),
    "no place": Reply(DATA[:10], 206, {"Content-Length": "10"}),
    "packed": whole(b"x" * 10, **{"Content-Encoding": "gzip"}),
    "nothing of it": Reply(b"", 206, {"Content-Range": "bytes 5-5/10", "Content-Length": "0"}),
    "gone": Reply(b"", 404, {"Content-Length": "0"}),
    "an error": Reply(b"x", 451, {"Content-Length": "1"}),
}


@pytest.mark.parametrize("kind", BAD_PARTS)
def test_a_part_that_is_not_what_was_asked_for_is_one_clear_line(kind: str) -> None:
    with pytest.raises(RemoteError) as caught:
        fetched(5, 10, BAD_PARTS[kind])
    assert "signature" not in line(caught.value)


# who we are


def signed_in(server: Scripted, *ways: Token | OAuthFile) -> KaggleAPI:
    return KaggleAPI(server.url, Credentials(ways), Patience(sleep=server.waits.append))


@pytest.mark.parametrize("user", ["../eve", "a b", 7, "x" * 100])
def test_a_user_name_that_is_none_is_one_clear_line(user: object) -> None:
    with Scripted(IntrospectToken=[of({"active": True, "username": user})]) as server:
        with pytest.raises(RemoteError, match="username") as caught:
            signed_in(server, Token("KGAT_secret", "here")).user()
    assert "KGAT_secret" not in line(caught.value)


def test_a_token_that_comes_back_in_an_error_is_not_shown() -> None:
    echo = of({"code": 400, "message": "no such token: KGAT_secret"}, 400)
    with Scripted(IntrospectToken=[of({"active": True, "username": "alice"})], GetKernel=[echo]) as server:
        with pytest.raises(RemoteError) as caught:
            signed_in(server, Token("KGAT_secret", "here")).kernel("job")
    assert line(caught.value) == "Kaggle's GetKernel failed with 400: no such token: ***"
    with Scripted(GetKernel=[of({"code": 400, "message": f"no such key: {KEY}"})]) as server:
        with pytest.raises(RemoteError, match=r"no such key: \*\*\*"):
            server.api().kernel("job")


def test_a_sign_in_that_gets_nonsense_for_a_token_is_refused() -> None:
    for token in ("", "two\nlines", "x" * 20_000):
        with Scripted(GenerateAccessToken=[of({"token": token})]) as server:
            way = OAuthFile(Path("/nowhere/credentials.json"), "KGRT_secret", "", None, "alice")
            with pytest.raises(AuthError, match="gives no token") as caught:
                signed_in(server, way).user()
        assert "KGRT_secret" not in line(caught.value)


# large JSON in pieces

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("log"), inner, max_size=4)
    ),
    max_leaves=12,
)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(
    st.dictionaries(st.text() | st.sampled_from(["log", 'l"og', "files"]), JSON),
    st.integers(1, 9),
    st.booleans(),
)
def test_an_object_loses_nothing_but_its_one_long_text(
    value: dict[str, object], size: int, plain: bool
) -> None:
    data = json.dumps(value, ensure_ascii=plain).encode()
    slim = json.loads(b"".join(lean.without(in_pieces(data, size), "log")))
    if isinstance(value.get("log"), str):
        value = {**value, "log": ""}
    assert slim == value


@given(st.lists(JSON, max_size=8), st.integers(1, 9), st.sampled_from([None, 1]))
def test_a_list_comes_item_by_item(value: list[object], size: int, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    assert list(lean.items(in_pieces(data, size))) == value
