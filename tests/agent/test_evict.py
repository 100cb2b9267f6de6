"""Room for new data: the longest unused goes first, and nothing that a run needs."""

import json
import os

import pytest

from tests.agent.test_serve_data import bring, sha, whole

HOUR_S = 3600


@pytest.fixture
def root(tmp_path, steward):
    return tmp_path / "root"


def brought(steward, root, *, hours_ago, **contents):
    """A source that was asked for so long ago."""
    digest = bring(steward, contents)
    used = root / "data/used" / digest
    time = used.stat().st_mtime - hours_ago * HOUR_S
    os.utime(used, (time, time))
    return digest


def evict(steward, size):
    return steward.call("data_evict", bytes=size)["removed"]


def kept(root):
    return {path.name for path in (root / "data/blobs").iterdir()}


def test_the_longest_unused_goes_and_only_as_much_as_must(steward, root):
    old = brought(steward, root, hours_ago=9, a=b"1" * 100)
    older = brought(steward, root, hours_ago=10, a=b"2" * 100)
    assert evict(steward, 100) == 1
    assert whole(steward, older, old) == [False, True]
    assert kept(root) == {sha(b"1" * 100)}
    assert not (root / "data/manifests" / f"{older}.json").exists()


def test_what_other_sources_have_too_stays(steward, root):
    brought(steward, root, hours_ago=10, a=b"shared" * 9, b=b"own" * 9)
    new = brought(steward, root, hours_ago=0, c=b"shared" * 9)
    assert evict(steward, 27) == 1
    assert whole(steward, new) == [True]
    assert kept(root) == {sha(b"shared" * 9)}


def test_nothing_goes_when_it_would_not_be_enough(steward, root):
    old = brought(steward, root, hours_ago=10, a=b"1" * 100)
    assert evict(steward, 101) == 0
    assert whole(steward, old) == [True]


def test_two_sources_that_share_a_content_free_it_together(steward, root):
    brought(steward, root, hours_ago=10, a=b"1" * 100)
    brought(steward, root, hours_ago=9, b=b"1" * 100)
    assert evict(steward, 100) == 2
    assert kept(root) == set()


def test_what_was_asked_for_lately_stays(steward, root):
    new = brought(steward, root, hours_ago=0.9, a=b"1" * 100)
    assert evict(steward, 100) == 0
    assert whole(steward, new) == [True]


def test_what_a_run_needs_that_has_not_ended_stays(steward, root):
    old = brought(steward, root, hours_ago=10, a=b"1" * 100)
    segment = root / "runs/r-aaaaaaaa/0"
    segment.mkdir(parents=True)
    (segment / "order.json").write_text(json.dumps({"data": {"train": {"digest": old}}}))
    assert evict(steward, 100) == 0
    (segment / "exit.json").write_text("{}")
    assert evict(steward, 100) == 1
    assert whole(steward, old) == [False]
