"""Secret values in all their forms."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent import masking
from tests.agent.segment import SegmentFolder

SECRET = 'hf_Abc/def+ghi "quoted" ünï'
VALUES = st.text(st.characters(categories=["L", "N", "P"]), min_size=8, max_size=40)


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower().replace("hf_abc", "hf_Abc"),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
    ],
)
def test_a_printed_form_is_masked_whole(form: str) -> None:
    masked = masking.mask(masking.patterns([SECRET]), f"token={form}!")
    assert "***" in masked
    assert "Abc" not in masked
    assert masked.startswith("token=")
    assert masked.endswith("!")


@given(value=VALUES, before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_base64_is_masked_wherever_the_secret_lies_in_it(value: str, before: bytes, after: bytes) -> None:
    raw = value.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        printed = encode(before + raw + after).decode()
        masked = masking.mask(masking.patterns([value]), printed)
        # At most the characters that the neighbours share in, two on each side, are left of it.
        assert "***" in masked
        assert len(masked) - 3 <= (len(before) + len(after)) * 4 / 3 + 7


@given(value=VALUES, cut=st.integers(0, 60))
def test_what_is_held_back_comes_at_the_end(value: str, cut: int) -> None:
    data = value.encode()[:-1] + (b"-" if value[-1] != "-" else b"+")
    masker = masking.Masker(masking.patterns([value]))
    assert masker.feed(data[:cut]) + masker.feed(data[cut:]) + masker.flush() == data


def test_a_longer_secret_that_begins_like_a_shorter_one_is_masked_whole() -> None:
    masker = masking.Masker(masking.patterns(["password", "password-of-mine"]))
    assert masker.feed(b"my password") == b"my "
    assert masker.feed(b"-of-mine and password ") == b"*** and *** "


def test_a_secret_that_ends_as_it_begins_is_masked_once() -> None:
    masker = masking.Masker(masking.patterns(["xyz-12-xyz"]))
    assert masker.feed(b"xyz-12-xyz") + masker.feed(b"!") + masker.flush() == b"***!"


def test_a_secret_of_several_lines_is_masked() -> None:
    key = "-----BEGIN KEY-----\nabcdefgh\nijklmnop\n-----END KEY-----\n"
    masker = masking.Masker(masking.patterns([key]))
    printed = f"key:\n{key}end\n".encode()
    assert (
        b"".join(masker.feed(printed[at : at + 5]) for at in range(0, len(printed), 5)) == b"key:\n***end\n"
    )


def test_a_secret_is_masked_without_its_line_end_too() -> None:
    assert masking.mask(masking.patterns(["s3cr3t-value\n"]), "is s3cr3t-value, yes") == "is ***, yes"


def test_short_values_would_blot_out_words_and_are_left() -> None:
    assert masking.patterns(["abc1234"]) == []


def test_a_secret_that_the_job_does_not_name_is_not_given_to_it(segment: SegmentFolder) -> None:
    segment.run("env; echo only-for-the-courier", values={"STORE_KEY": "only-for-the-courier"}, secrets=[])
    assert "STORE_KEY" not in segment.said("stdout")
    assert segment.said("stdout").endswith("***\n")


def test_a_named_secret_reaches_the_job_and_no_file_of_ours(segment: SegmentFolder) -> None:
    value = "tok-0123456789abcdef"
    code = (
        "import base64, os, sys, time; v = os.environ['HF_TOKEN'];"
        "sys.stdout.write('whole ' + v + ' part ' + v[:7]); sys.stdout.flush(); time.sleep(0.8);"
        "print(v[7:], 'b64', base64.b64encode(('user:' + v).encode()).decode());"
        "path = os.environ['LAUNCHER_SECRETS'] + '/HF_TOKEN';"
        "print(open(path).read(), oct(os.stat(path).st_mode), os.path.dirname(path), file=sys.stderr)"
    )
    end = segment.run(["python3", "-c", code], values={"HF_TOKEN": value})
    assert end["state"] == "succeeded"
    assert segment.said("stdout").startswith("whole *** part *** b64 dXNlc")
    assert segment.said("stderr").startswith("*** 0o100400 /dev/shm/launcher-")
    forms = masking.patterns([value])
    for path in segment.path.rglob("*"):
        if path.is_file():
            assert not any(form in path.read_bytes() for form in forms), path
