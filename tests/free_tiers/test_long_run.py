"""A run longer than a session: the platform ends it, `resume` goes on, and nobody sees it in the weights.

Here sessions end as soon as they have done some steps. By the clock, 30 hours of it: `python -m bench.free_tiers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.emulators.colab.emulator import Colab
from tests.emulators.kaggle.emulator import Kaggle
from tests.free_tiers import long_run
from tests.free_tiers.long_run import SESSION_ENDED, Work
from tests.laptop import Laptop

pytestmark = pytest.mark.timeout(900)
WORK = Work(steps=60, pause=0.25, every=5)
PLACES = ("kaggle", "kaggle", "colab", "colab", "local")
STEPS_A_SESSION = 12


@pytest.fixture
def laptop(platforms: dict[str, str], tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop", platforms)
    try:
        yield made
    finally:
        made.launcher("release", "--all", "--force")
        made.close()


def test_a_run_outlives_its_sessions_and_goes_on_elsewhere(
    laptop: Laptop, kaggle: Kaggle, colab: Colab
) -> None:
    ends: dict[str, Callable[[], None]] = {
        "kaggle": lambda: kaggle.sessions[-1].time_out(),
        "colab": colab.reclaim,
    }

    def end_the_session(home: Path, number: int) -> None:
        target, wanted = PLACES[number], (number + 1) * STEPS_A_SESSION
        if target in ends:
            laptop.wait_for(lambda: long_run.steps_home(home) >= wanted, f"step {wanted} on {target}")
            if target == "colab":  # what is not home is gone with the runtime
                saved = home / f"checkpoints/step-{wanted - wanted % WORK.every:05}.json"
                laptop.wait_for(saved.exists, f"{saved.name} at home")
            ends[target]()

    played = long_run.play(laptop, PLACES, WORK, end_the_session)

    assert played.codes == [SESSION_ENDED] * 4 + [0], long_run.told(laptop)
    assert len(played.lost) == 4
    assert all(0 <= lost <= WORK.every for lost in played.lost), played.lost
    assert played.numbers == list(range(1, len(played.numbers) + 1))
    assert played.steps == list(range(1, WORK.steps + 1))
    assert played.weights == long_run.undisturbed(laptop, WORK)
    where = [segment["target"] for segment in laptop.status(played.home.name)["segments"]]
    assert where == list(PLACES)
