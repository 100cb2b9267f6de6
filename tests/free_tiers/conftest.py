"""Both emulators, and laptops that know them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.environments import System
from tests.emulators.colab.settings import Settings as ColabSettings
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.settings import Settings as KaggleSettings
from tests.emulators.other_python import other_python
from tests.free_tiers import traps
from tests.targets.conftest import own_images as own_images
from tests.targets.conftest import served_python as served_python


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kaggle]:
    """Another Python than the jobs', and on its path packages with the names of theirs."""
    folder = traps.write(tmp_path_factory.mktemp("preinstalled"))
    path = {"PYTHONPATH": f"/kaggle/lib/kagglegym:/kaggle/lib:{folder}"}
    with Kaggle(KaggleSettings(environment=path, visible=(folder,))) as running:
        yield running


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    """Another Python than the jobs', with other versions of their packages."""
    system = System(str(other_python()), traps.PACKAGES)
    with Colab(ColabSettings(system=system)) as running:
        yield running


@pytest.fixture(scope="module")
def platforms(kaggle: Kaggle, colab: Colab) -> dict[str, str]:
    """The variables that point our clients at both."""
    return {**kaggle.environment, **colab.environment}
