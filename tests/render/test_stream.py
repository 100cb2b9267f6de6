"""The --json stream: objects with schema and type, log objects byte-equal but for the two keys."""

from __future__ import annotations

import io
import json
from typing import Any

from launcher.events import ArtifactHome, Event, LogLines, Notice, Progress, Result, StateChanged
from launcher.render.sink import Sink
from launcher.render.stream import JsonStream, log_objects


def streamed(*events: Event) -> tuple[list[dict[str, Any]], str]:
    out, err = io.BytesIO(), io.BytesIO()
    stream = JsonStream(Sink(out), Sink(err))
    for event in events:
        stream.show(event)
    return [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue().decode()


def test_every_object_has_schema_and_type() -> None:
    artifact = ArtifactHome("a-aaaaaaaa", "checkpoint", "e1", "/x/e1", 3, "ab")
    objects, _ = streamed(
        LogLines(b'{"v":1,"seq":1,"text":"x"}\n'),
        StateChanged("a-aaaaaaaa", 0, "running"),
        Progress("upload", "bundle", 1, 2),
        artifact,
        Result("a-aaaaaaaa", "failed", 3, "oom", {"exit_code": 3}),
    )
    assert [o["type"] for o in objects] == ["log", "state", "progress", "artifact", "result"]
    assert all(o["schema"] == 1 for o in objects)
    assert objects[-1] == {
        "schema": 1,
        "type": "result",
        "run": "a-aaaaaaaa",
        "state": "failed",
        "reason": "oom",
        "exit_code": 3,
    }


def test_log_objects_are_the_lines_of_the_log_with_two_keys_added() -> None:
    first = {"v": 1, "seq": 1, "text": 'a {"b"} \\n {'}
    second = {"v": 1, "seq": 2, "text": "\n"}
    block = "".join(json.dumps(record) + "\n" for record in (first, second)).encode()
    added = {"schema": 1, "type": "log"}
    assert [json.loads(line) for line in log_objects(block).splitlines()] == [added | first, added | second]


def test_chatter_is_not_on_stdout() -> None:
    objects, err = streamed(Notice("trying\x1b[2J again", "warning"))
    assert objects == []
    assert err == "trying again\n"


def test_progress_comes_at_most_a_few_times_a_second_and_its_end_always() -> None:
    steps = [Progress("upload", "", done, 1000) for done in range(1000)]
    objects, _ = streamed(*steps, Progress("upload", "", 1000, 1000, finished=True))
    assert len(objects) < 10
    assert objects[-1]["finished"] is True


def test_every_new_detail_is_told_however_soon_it_comes() -> None:
    objects, _ = streamed(
        Progress("image", "step 1"), Progress("image", "step 2"), Progress("image", "step 2")
    )
    assert [o["detail"] for o in objects] == ["step 1", "step 2"]
