"""What the ledger keeps and how it is asked."""

from __future__ import annotations

import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import LauncherError, RunNotFound
from launcher.ledger import Ledger
from launcher.run import Resource, Run, Segment, State

NONCE = "abcdefg"


def a_run(name: str = "flowers", tail: str = "a", **more: object) -> Run:
    values = {"spec": {"run": "true"}, "facts": {"args": ["ü"]}, "home": f"/tmp/{name}", **more}
    return Run(id=f"{name}-{NONCE}{tail}", name=name, created_at="2026-01-01T00:00:00.000Z", **values)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path):
    ledger = Ledger(tmp_path / "home")
    yield ledger
    ledger.close()


def with_segment(ledger: Ledger, **values: object) -> str:
    run = a_run()
    ledger.create_run(run)
    ledger.add_segment(Segment(run.id, 0, "local", **values))  # type: ignore[arg-type]
    return run.id


def test_a_run_comes_back_as_it_was(ledger: Ledger) -> None:
    run = a_run(parent="older-abcdefgh", segments=[Segment("flowers-abcdefga", 0, "local", {"pid": 7})])
    ledger.create_run(run)
    found = ledger.run(run.id)
    assert (found.spec, found.facts, found.parent, found.home) == (run.spec, run.facts, run.parent, run.home)
    assert found.segments == tuple(run.segments)


def test_what_was_written_is_there_for_the_next_process(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    other = Ledger(ledger.folder)
    assert other.run(run_id).newest == Segment(run_id, 0, "local")
    other.close()


def test_a_run_is_found_by_id_last_name_and_prefix(ledger: Ledger) -> None:
    for run in (a_run(tail="a"), a_run("birds", "b"), a_run(tail="c")):
        ledger.create_run(run)
    asked = {"flowers-abcdefga": "a", "last": "c", "flowers": "c", "birds": "b", "bir": "b"}
    assert {text: ledger.find(text).id[-1] for text in asked} == asked


def test_a_name_that_is_a_prefix_of_another_name_is_still_a_name(ledger: Ledger) -> None:
    ledger.create_run(a_run("tr"))
    ledger.create_run(a_run("train"))
    assert ledger.find("tr").name == "tr"


def test_an_ambiguous_prefix_names_the_candidates(ledger: Ledger) -> None:
    ledger.create_run(a_run(tail="a"))
    ledger.create_run(a_run(tail="b"))
    with pytest.raises(RunNotFound, match=r"flowers-abcdefgb, flowers-abcdefga"):
        ledger.find("flo")


def test_an_unknown_run_gets_near_names(ledger: Ledger) -> None:
    ledger.create_run(a_run())
    with pytest.raises(RunNotFound) as e:
        ledger.find("flovers")
    assert "did you mean flowers" in e.value.hint


@pytest.mark.parametrize("text", ["", "last", "x", "%", "_"])
def test_an_empty_ledger_says_so(ledger: Ledger, text: str) -> None:
    with pytest.raises(RunNotFound, match="no runs yet"):
        ledger.find(text)


def test_a_wildcard_is_no_prefix(ledger: Ledger) -> None:
    ledger.create_run(a_run())
    for text in ("", "%", "_lowers"):
        with pytest.raises(RunNotFound):
            ledger.find(text)


def test_active_runs_are_those_that_have_not_ended(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    ledger.create_run(a_run("new"))
    assert [run.name for run in ledger.runs(active_only=True)] == ["new", "flowers"]
    ledger.update_segment(run_id, 0, state=State.FAILED, exit_code=3)
    assert [run.name for run in ledger.runs(active_only=True)] == ["new"]
    assert [run.name for run in ledger.runs(limit=1)] == ["new"]


def test_states_only_advance_and_an_end_absorbs(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    assert ledger.update_segment(run_id, 0, state=State.RUNNING).state is State.RUNNING
    assert ledger.update_segment(run_id, 0, state=State.BUILDING, reason="late").reason == ""
    ended = ledger.update_segment(run_id, 0, state=State.SUCCEEDED, exit_code=0)
    assert ended.ended_at
    later = ledger.update_segment(run_id, 0, state=State.LOST, reason="gone", exit_code=9, released_at="now")
    assert later == replace(ended, released_at="now")
    assert [e["data"]["to"] for e in ledger.events(run_id)] == ["running", "succeeded"]


def test_an_unknown_field_is_a_mistake_of_the_program(ledger: Ledger) -> None:
    with pytest.raises(TypeError, match="colour"):
        ledger.update_segment(with_segment(ledger), 0, colour="red")


def test_handles_are_merged(ledger: Ledger) -> None:
    run_id = with_segment(ledger, handle={"host": "a"})
    ledger.save_handle(run_id, 0, {"container": "c"})
    assert ledger.save_handle(run_id, 0, {"host": "b"}).handle == {"host": "b", "container": "c"}


def test_a_segment_number_is_given_once(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    ledger.add_segment(Segment(run_id, 1, "local"))
    for number in (1, 3):
        with pytest.raises(LauncherError, match=r"resumed|lacks"):
            ledger.add_segment(Segment(run_id, number, "local"))


def test_an_intent_is_there_before_its_effect_and_is_confirmed_by_id(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    row = ledger.intend(run_id, 0, Resource("machine", "", NONCE, paid=True, detail={"type": "V100"}))
    (held,) = ledger.resources()
    assert (held.row, held.confirmed_at, held.resource.id, held.resource.paid) == (row, None, "", True)
    ledger.confirm(row, "i-1", {"ip": "10.0.0.1"})
    (held,) = ledger.resources(run_id)
    assert held.confirmed_at
    assert held.resource == Resource("machine", "i-1", NONCE, True, {"type": "V100", "ip": "10.0.0.1"})
    ledger.released_row(row)
    assert ledger.resources() == []
    assert ledger.resources(unreleased_only=False)[0].released_at


def test_the_same_intent_twice_is_one_row_but_another_machine_is_another(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    intents = [Resource("volume", "", NONCE, detail={"n": n}) for n in (1, 1, 2)]
    rows = [ledger.intend(run_id, 0, intent) for intent in intents]
    assert rows[0] == rows[1] != rows[2]


def test_a_resource_told_again_with_its_id_confirms_the_intent_of_its_kind(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    rows = [ledger.intend(run_id, 0, Resource("volume", "", NONCE, detail={"n": n})) for n in (1, 2)]
    saved = [ledger.intend(run_id, 0, Resource("volume", f"v{n}", NONCE)) for n in (1, 2, 3)]
    assert saved[:2] == rows
    assert saved[2] not in rows
    again = ledger.intend(run_id, 0, Resource("volume", "v2", NONCE, detail={"gb": 50}))
    assert again == rows[1]
    assert ledger.resources()[1].resource.detail == {"n": 2, "gb": 50}
    assert [bool(held.confirmed_at) for held in ledger.resources()] == [True, True, False]


def test_a_resource_is_released_by_kind_and_id_in_its_run_alone(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    for name in ("a", "b"):
        ledger.intend(run_id, 0, Resource("container", name, NONCE))
    ledger.released("another-run", "container", "a")
    ledger.released(run_id, "container", "b")
    assert [(held.resource.id, held.target) for held in ledger.resources()] == [("a", "local")]


def test_a_run_that_may_still_cost_is_active(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    ledger.intend(run_id, 0, Resource("folder", "/x", NONCE))
    row = ledger.intend(run_id, 0, Resource("machine", "", NONCE, paid=True))
    ledger.update_segment(run_id, 0, state=State.SUCCEEDED)
    assert len(ledger.runs(active_only=True)) == len(ledger.resources(paid_only=True)) == 1
    ledger.released_row(row)
    assert ledger.runs(active_only=True) == ledger.resources(paid_only=True) == []


def test_limits_of_a_recorded_spec_may_be_raised(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    ledger.update_spec(run_id, {"limits": {"time": "7h"}})
    assert ledger.run(run_id).spec == {"limits": {"time": "7h"}}


def test_a_run_is_not_released_while_something_of_it_may_cost(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    row = ledger.intend(run_id, 0, Resource("machine", "", NONCE, paid=True))
    with pytest.raises(LauncherError, match="still has machine"):
        ledger.release_run(run_id)
    ledger.released_row(row)
    released = ledger.release_run(run_id).newest
    assert released
    assert released.released_at
    assert ledger.release_run(run_id).newest == released


def test_events_keep_their_order_and_data(ledger: Ledger) -> None:
    run_id = with_segment(ledger)
    ledger.event(run_id, "note", {"text": "a\nb"})
    ledger.event(run_id, "end")
    assert [(e["kind"], e["data"]) for e in ledger.events(run_id)] == [
        ("note", {"text": "a\nb"}),
        ("end", {}),
    ]


def test_folder_and_files_are_private(ledger: Ledger) -> None:
    ledger.create_run(a_run())
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in [ledger.folder, *ledger.folder.iterdir()]}
    assert modes.pop("home") == 0o700
    assert modes
    assert set(modes.values()) == {0o600}


def test_a_folder_that_others_may_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    Ledger(tmp_path / "home").close()
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_a_linked_state_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")
    with pytest.raises(LauncherError, match="not a folder"):
        Ledger(tmp_path / "home")
    assert list((tmp_path / "real").iterdir()) == []


def test_a_linked_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LauncherError, match="is a link"):
        Ledger(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_state_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 12345, 12345)
    with pytest.raises(LauncherError, match="another user"):
        Ledger(tmp_path / "home")


@pytest.mark.parametrize(
    ("version", "said"), [(2, "newer launcher"), (99, "newer launcher"), (-1, "not a ledger")]
)
def test_a_ledger_of_another_version_is_refused(ledger: Ledger, version: int, said: str) -> None:
    with sqlite3.connect(ledger.folder / "ledger.sqlite3") as db:
        db.execute(f"PRAGMA user_version={version}")
    db.close()
    with pytest.raises(LauncherError, match=said) as e:
        Ledger(ledger.folder)
    assert e.value.exit_code == 125


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"hello, hello, hello\n" * 100)
    with pytest.raises(LauncherError, match=r"ledger\.sqlite3"):
        Ledger(tmp_path)


def test_commits_are_on_the_disk(ledger: Ledger) -> None:
    pragmas = ("journal_mode", "synchronous")
    values = [ledger._database.read(lambda db, p=p: db.execute(f"PRAGMA {p}").fetchone()[0]) for p in pragmas]
    assert values == ["wal", 2]
