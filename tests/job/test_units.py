"""Times and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import SpecError
from launcher.job.units import duration_s, show_duration, show_size, shown, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("6h", 21600), ("1h30m", 5400), ("1d", 86400), ("1.5h", 5400),
     ("1d 2h", 93600), ("0s", 0), ("1d2h3m4s", 93784), ("0.5s", 0.5)],
)  # fmt: skip
def test_a_time_is_read_in_seconds(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "90", "6 hours", "h", "1m2h", "-1h", "1:30", "1e3s", "٣h", "1h\n", "6H", "400d", "1h1h", " 1h"],
)
def test_what_is_not_a_time_is_refused_with_an_example(text):
    with pytest.raises(SpecError) as caught:
        duration_s(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("8GiB", 8 * 2**30), ("16GB+", 16 * 10**9), ("500MB", 500 * 10**6), ("1TB", 10**12),
     ("1.5gb", 1_500_000_000), ("512 MiB", 512 * 2**20), ("100B", 100), ("1kB", 1000), ("1KiB", 1024)],
)  # fmt: skip
def test_gb_is_decimal_and_gib_binary(text, size):
    assert size_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "8", "8G", "8Gi", "GB", "-1GB", "8GBs", "8GB++", "1e3GB", "2000000TB", "8GB\n"]
)
def test_a_size_needs_its_unit(text):
    with pytest.raises(SpecError):
        size_bytes(text)


@given(st.integers(0, 366 * 86400 * 1000))
def test_a_shown_time_reads_back_to_the_millisecond(milliseconds):
    assert duration_s(show_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.integers(0, 10**17))
def test_a_shown_size_reads_back_within_a_twentieth(size):
    assert size_bytes(show_size(size)) == pytest.approx(size, rel=0.05)


def test_shown_values_stay_on_one_short_line():
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 500)) <= 60
