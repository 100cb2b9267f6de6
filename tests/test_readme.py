"""What the README shows is what happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laptop import Laptop

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop")
    yield made
    made.close()


def blocks() -> list[str]:
    return re.findall(r"```console\n(.*?)```", README, re.DOTALL)


def shown_of(block: str, printed: str) -> str:
    """On a busy machine the kill comes later than epoch 3: then the resumed part counts from there, to the digit."""
    came, shown = (re.findall(r"going on after epoch (\d+)\n", text) for text in (printed, block))
    assert (len(came), len(shown)) == (1, 1)
    if came == shown:
        return block
    last, then = int(came[0]), int(shown[0])
    assert last > then
    (first,) = re.findall(rf"^epoch +{last + 1}  loss .*$", printed.partition("3 of 3")[2], re.MULTILINE)
    before, after = block.split(f"going on after epoch {then}\n")
    return f"{before}going on after epoch {last}\n" + re.sub(r"^epoch .*", first, after, flags=re.MULTILINE)


def test_the_first_block_is_what_the_demo_prints_in_its_order(laptop: Laptop, tmp_path: Path) -> None:
    with (tmp_path / "all").open("wb") as both:
        laptop.launcher("demo", stdout=both, stderr=both, timeout=60)
    printed = (tmp_path / "all").read_text()

    command, *shown = shown_of(blocks()[0], printed).splitlines()
    assert command == "$ pipx install . && launcher demo"
    at = 0
    for line in shown:
        if line and line != "…":
            hidden = re.sub(r"[0-9a-f]{12}…", "…", line)  # the last bits depend on the machine's libm
            pattern = ".*?".join(map(re.escape, hidden.split("…")))
            found = re.compile("^" + pattern, re.MULTILINE).search(printed, at)
            assert found, f"not printed after what came before it: {line!r}\n{printed}"
            at = found.end()


def test_every_command_of_the_readme_exists(laptop: Laptop) -> None:
    words = re.findall(r"^\$ launcher ([a-z]+)", README, re.MULTILINE)
    assert len(set(words)) >= 8
    for verb in set(words):
        laptop.ok(verb, "--help")


@pytest.mark.parametrize("page", ["README.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))])
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page} links to {target}"
