"""Which files travel: what git would take, less what the spec says and what never leaves."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.files import LARGE_BYTES, choose
from launcher.job.spec import Files
from tests.test_bundle import write

NAMES = ["n\nl", "\\x", "#h", "a", "b", "build", "x.py", "y.txt", "data", "keep", "foo.log", "A b", "é"]
PATTERNS = [
    *["n*", "n?l", "\\\\x", "\\#h", "[!a]", "[a-c]*", "d[a-z]ta", "**", "a/**/b", "/**/b", "**/", "!**/"],
    *["a/*/", "!a/*/b", "*.py", "build/", "/a", "a/", "!a/", "!x.py", "*", "!*/", "!*.py", "data/*"],
    *["!data/keep", "**/foo.log", "a/**", "!a/**/x.py", "/*", "!/build", "b/x.py", "foo.*", "[ab]", "!b"],
    *["a/b", "**/keep", "keep/**/b", "\\!x", "# c", "  ", "é", "A b", "A\\ b", "*.log", "!foo.log", "?"],
    *["a*", "/b/*/", "!/b/a/", "x.py "],
]
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n"


def paths(root: Path, files: Files | None = None, leave_out: tuple[Path, ...] = ()) -> list[str]:
    return [file.path for file in choose(root, files or Files(), leave_out).files]


def grow(folder: Path, chance: random.Random, depth: int = 0) -> None:
    """A random tree with random ignore files."""
    folder.mkdir(exist_ok=True)
    for name in chance.sample(NAMES, chance.randint(1, 5)):
        if "." not in name and depth < 3 and chance.random() < 0.6:
            grow(folder / name, chance, depth + 1)
        else:
            (folder / name).write_text("1")
    if depth == 0 or chance.random() < 0.5:
        lines = chance.choices(PATTERNS, k=chance.randint(1, 5))
        (folder / ".gitignore").write_text("".join(line + "\n" for line in lines))


def taken_by_git(folder: Path) -> set[str]:
    command = ["git", "-C", folder, "-c", "core.excludesFile=/dev/null", "ls-files", "-z", "--others"]
    listed = subprocess.run(
        [*command, "--exclude-per-directory=.gitignore"], capture_output=True, check=True
    ).stdout
    return {os.fsdecode(name) for name in listed.split(b"\0") if name}


@pytest.mark.parametrize("seed", range(60))
def test_ignore_files_mean_what_they_mean_to_git(tmp_path: Path, seed: int) -> None:
    grow(tmp_path / "tree", random.Random(seed))
    subprocess.run(["git", "init", "-q", tmp_path / "tree"], check=True)
    (tmp_path / "tree" / "always").write_text("so that something travels")
    (tmp_path / "tree" / ".launcherignore").write_text("!/always\n")
    expected = taken_by_git(tmp_path / "tree") | {"always"}
    assert set(paths(tmp_path / "tree")) - {".launcherignore"} == expected - {".launcherignore"}


def test_ignore_files_above_the_job_count_up_to_the_repository(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": b"*.outside\n", "repo/.gitignore": b"*.ckpt\n/jobs/a/data\n/a\n"})
    job = write(
        tmp_path / "repo/jobs/a", {"x.ckpt": b"", "x.outside": b"", "data/x": b"", "a": b"", "b": b""}
    )
    (tmp_path / "repo/.git").mkdir()
    assert paths(job) == ["a", "b", "x.outside"]


def test_a_job_inside_an_ignored_folder_travels_because_it_was_named(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(tmp_path, {".gitignore": b"/scratch/\n*.log\n"})
    assert paths(write(tmp_path / "scratch", {"train.py": b"", "x.log": b""})) == ["train.py", "x.log"]


def test_launcherignore_is_stronger_than_gitignore(tmp_path: Path) -> None:
    root = write(tmp_path, {".gitignore": b"*.bin\n", "model.bin": b"", "other.bin": b"", "notes.md": b""})
    write(root, {".launcherignore": b"!model.bin\nnotes.md\n.*ignore\n"})
    assert paths(root) == ["model.bin"]


def test_the_spec_includes_and_excludes_on_top(tmp_path: Path) -> None:
    root = write(
        tmp_path, {"src/a.py": b"", "src/b.txt": b"", "big.ckpt": b"", "src/x.ckpt": b"", "c.py": b""}
    )
    assert paths(root, Files(include=("src", "*.ckpt"), exclude=("*.ckpt",))) == ["src/a.py", "src/b.txt"]
    assert paths(root, Files(include=("**", "!src/**"))) == ["big.ckpt", "c.py"]


def test_an_include_does_not_bring_back_what_is_ignored(tmp_path: Path) -> None:
    root = write(tmp_path, {".gitignore": b"secret.txt\n", "secret.txt": b"", "a": b""})
    assert "secret.txt" not in paths(root, Files(include=("**", "secret.txt")))


NEVER = {
    ".git/config": b"",
    "sub/.git": b"gitdir: elsewhere",
    "odd name/pyvenv.cfg": b"",
    "pkg/__pycache__/x.cpython-312.pyc": b"",
    "old.pyc": b"",
    ".env": b"",
    ".env.production": b"",
    "sub/.ENV": b"",
    ".envs/dev": b"",
    "id_rsa": b"",
    "deploy/id_ed25519": b"",
    "cert.pem": b"",
    "tls.KEY": b"",
    "innocent.txt": KEY,
    "with-bom.cfg": b"\xef\xbb\xbf" + KEY,
    "bag": b"Bag Attributes\n    friendlyName: x\n" + KEY.replace(b"OPENSSH ", b""),
    "putty": b"PuTTY-User-Key-File-3: ssh-ed25519\n",
    ".netrc": b"",
    "kaggle.json": b"",
    ".aws/credentials": b"",
    "home/.ssh/known_hosts": b"",
    "runs/flowers-abcd2345/capsule.json": b"",
    "runs/young-abcd2345/.launcher/lock": b"",
    "job.yaml": b"",
}


@pytest.mark.parametrize("name", NEVER)
def test_this_never_travels(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, {"train.py": b"", name: NEVER[name]})
    files = Files(include=("**", name, "/" + name))
    write(root, {".launcherignore": f"!{name}\n.launcherignore\n".encode()})
    assert paths(root, files) == ["train.py"]


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "capsule.json", ".launcher/lock"])
def test_nothing_of_a_virtual_environment_or_a_run_travels(tmp_path: Path, mark: str) -> None:
    root = write(tmp_path, {"a": b"", f"inner/{mark}": b"", "inner/log.jsonl": b"", "inner/bin/x": b""})
    assert paths(root) == ["a"]


def test_what_looks_like_a_key_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, {"train.py": b"", "a.pem": b"", "sub/note": KEY, ".env": b"", "x.pyc": b""})
    assert choose(root, Files()).keys == (".env", "a.pem", "sub/note")


def test_files_that_only_speak_of_keys_travel(tmp_path: Path) -> None:
    text = b'HEADER = "-----BEGIN PRIVATE KEY-----"\n'
    assert paths(write(tmp_path, {"keys.py": text, "monkey": b"", "environment.py": b""})) == [
        "environment.py",
        "keys.py",
        "monkey",
    ]


def test_data_sources_and_other_specs_are_left_out(tmp_path: Path) -> None:
    root = write(
        tmp_path, {"data/x": b"", "one.csv": b"", "other.yaml": b"", "train.py": b"", "sub/job.yaml": b""}
    )
    left_out = (root / "data", root / "sub/../one.csv", root / "other.yaml")
    assert paths(root, leave_out=left_out) == ["sub/job.yaml", "train.py"]


def test_a_link_is_refused_by_name_unless_it_is_ignored(tmp_path: Path) -> None:
    root = write(tmp_path / "job", {"a": b"", "sub/x": b""})
    (root / "sub" / "data").symlink_to("/etc")
    with pytest.raises(SpecError, match="sub/data is a symbolic link") as caught:
        choose(root, Files())
    assert "/sub/data" in caught.value.hint
    write(root, {".launcherignore": b"/sub/data\n"})
    assert paths(root) == [".launcherignore", "a", "sub/x"]


def test_a_link_to_a_virtual_environment_is_left_out_like_one(tmp_path: Path) -> None:
    write(tmp_path / "venvs/x", {"pyvenv.cfg": b""})
    root = write(tmp_path / "job", {"a": b""})
    (root / ".venv").symlink_to(tmp_path / "venvs/x")
    assert paths(root) == ["a"]


def test_a_pipe_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(write(tmp_path, {"a": b""}) / "queue")
    with pytest.raises(SpecError, match="queue is not a regular file"):
        choose(tmp_path, Files())


def test_a_name_that_is_not_utf_8_is_refused_unless_ignored(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": b"", "sub/b": b""})
    (root / "sub" / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    with pytest.raises(SpecError, match=r"sub/caf\\xe9 is not UTF-8"):
        choose(root, Files())
    assert paths(root, Files(exclude=("caf?",))) == ["a", "sub/b"]


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, unprivileged: bool) -> None:
    root = write(tmp_path, {"a": b"", "closed": b""})
    (root / "closed").chmod(0)
    if unprivileged:
        with pytest.raises(SpecError, match="closed: Permission denied"):
            choose(root, Files())
    else:
        assert paths(root) == ["a", "closed"]


@pytest.fixture
def unprivileged() -> bool:
    """Root reads everything."""
    return os.geteuid() != 0


def test_large_files_are_listed(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": b"1"})
    for name, size in {"exactly": LARGE_BYTES, "beyond": LARGE_BYTES + 1}.items():
        with open(root / name, "wb") as file:
            file.truncate(size)
    choice = choose(root, Files())
    assert [file.path for file in choice.large] == ["beyond"]
    assert choice.size_bytes == 2 * LARGE_BYTES + 2


def test_files_are_sorted_by_their_utf_8_names(tmp_path: Path) -> None:
    names = ["a/b", "a-b", "a.b", "ä", "z", "Z", "\U0001f98a", "\uffee"]
    assert paths(write(tmp_path, dict.fromkeys(names, b""))) == sorted(names, key=str.encode)


def test_a_job_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no file of"):
        choose(write(tmp_path, {"job.yaml": b""}), Files())
    with pytest.raises(SpecError, match="no file of"):
        choose(write(tmp_path, {"a.py": b""}), Files(include=("scr/**",)))


def shared(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """A job's folder beside the files."""
    return write(write(tmp_path / "all", files) / "job", {"train.py": b""})


def refused(root: Path, *also: str, **files: tuple[str, ...]) -> SpecError:
    with pytest.raises(SpecError) as caught:
        choose(root, Files(also=also, **files))
    return caught.value


def test_shared_files_lie_beside_the_jobs_own_under_their_last_name(tmp_path: Path) -> None:
    root = shared(tmp_path, {"common.py": b"12", "lib/deep/a.py": b"", "zoo/lib.py": b""})
    choice = choose(root, Files(include=("*.py",), also=("../zoo/lib.py", "../lib/", "../common.py")))
    assert [file.path for file in choice.files] == ["common.py", "lib.py", "lib/deep/a.py", "train.py"]
    assert choice.size_bytes == 2


def test_a_shared_folder_follows_its_own_ignore_files_and_the_exclude_patterns(tmp_path: Path) -> None:
    root = shared(tmp_path, {"lib/a.py": b"", "lib/a.log": b"", "lib/x.ckpt": b"", "lib/data/x": b""})
    write(
        tmp_path, {"all/.git/HEAD": b"", "all/.gitignore": b"*.log\n/lib\n", "all/lib/.gitignore": b"/data\n"}
    )
    files = Files(include=("*.py",), exclude=("*.ckpt",), also=("../lib",))
    assert paths(root, files) == ["lib/.gitignore", "lib/a.log", "lib/a.py", "train.py"]  # /lib was named
    write(tmp_path / "all", {".gitignore": b"*.log\n"})
    assert paths(root, files) == ["lib/.gitignore", "lib/a.py", "train.py"]


def test_a_shared_file_travels_although_it_is_ignored_because_it_was_named(tmp_path: Path) -> None:
    root = shared(tmp_path, {"common.py": b"", ".git/HEAD": b"", ".gitignore": b"common.py\n"})
    assert "common.py" in paths(root, Files(also=("../common.py",)))


def test_what_looks_like_a_key_in_a_shared_folder_stays_and_is_named(tmp_path: Path) -> None:
    root = shared(tmp_path, {"lib/a.py": b"", "lib/sub/note": KEY, "lib/.env": b"", "lib/.git/config": b""})
    choice = choose(root, Files(also=("../lib",)))
    assert choice.keys == ("../lib/.env", "../lib/sub/note")
    assert [file.path for file in choice.files] == ["lib/a.py", "train.py"]


@pytest.mark.parametrize(
    "name", [name for name in NEVER if name != "job.yaml" and not name.startswith("runs")]
)
def test_this_is_never_shared_even_if_it_is_named(tmp_path: Path, name: str) -> None:
    root = shared(tmp_path, {name: NEVER[name], "home/readme": b"", "deploy/readme": b"", "sub/readme": b""})
    path = f"../{name}"
    if name.partition("/")[0] in (".git", "odd name", ".envs", ".aws"):
        path = f"../{name.partition('/')[0]}"  # the folder is what must not travel
    elif name.startswith(("pkg", "home")):
        path = f"../{name.rpartition('/')[0]}"
    error = refused(root, path)
    assert path in error.message
    assert "never travels" in error.message


def test_two_things_of_one_name_are_refused_and_both_are_named(tmp_path: Path) -> None:
    root = shared(tmp_path, {"train.py": b"", "a/lib/x": b"", "b/lib": b"", "data": b""})
    error = refused(root, "../train.py")
    assert error.message == "files.also: ../train.py and train.py would both be train.py in the bundle"
    assert "../b/lib and ../a/lib would both be lib" in refused(root, "../a/lib", "../b/lib").message
    write(root, {"data/one": b""})
    assert "../data and data/one would both be data" in refused(root, "../data").message
    assert "data" in paths(root, Files(include=("*.py",), also=("../data",)))


def test_what_is_not_there_is_refused_and_the_nearest_name_is_offered(tmp_path: Path) -> None:
    root = shared(tmp_path, {"common.py": b""})
    error = refused(root, "../comon.py")
    assert (error.message, error.hint) == (
        "../comon.py: no such file or folder",
        "did you mean ../common.py?",
    )


def test_the_jobs_own_folder_is_not_shared_into_itself(tmp_path: Path) -> None:
    root = shared(tmp_path, {"common.py": b""})
    assert "holds the job's own folder" in refused(root, "..").message
    assert "inside the job's folder" in refused(root, "../job/train.py").message
    assert "spec of another job" in refused(shared(tmp_path, {"job.yaml": b""}), "../job.yaml").message


def test_links_and_pipes_are_not_shared(tmp_path: Path) -> None:
    root = shared(tmp_path, {"common.py": b"", "lib/a.py": b""})
    (tmp_path / "all/link.py").symlink_to("common.py")
    (tmp_path / "all/linked").symlink_to("lib")
    os.mkfifo(tmp_path / "all/queue")
    assert "link" in refused(root, "../link.py").message
    assert "link" in refused(root, "../linked/a.py").message
    assert "neither a file nor a folder" in refused(root, "../queue").message
    (tmp_path / "all/lib/inner").symlink_to("/etc")
    assert "inner is a symbolic link" in refused(root, "../lib").message


def test_a_shared_folder_from_which_nothing_would_travel_is_refused(tmp_path: Path) -> None:
    root = shared(tmp_path, {"lib/.env": b""})
    assert "no file of ../lib would travel" in refused(root, "../lib").message


def test_data_inside_a_shared_folder_stays(tmp_path: Path) -> None:
    root = shared(tmp_path, {"lib/a.py": b"", "lib/data/x": b""})
    assert paths(root, Files(also=("../lib",)), (root / "../lib/data",)) == ["lib/a.py", "train.py"]


def test_large_shared_files_are_listed(tmp_path: Path) -> None:
    root = shared(tmp_path, {"weights": b""})
    os.truncate(tmp_path / "all/weights", LARGE_BYTES + 1)
    assert [file.path for file in choose(root, Files(also=("../weights",))).large] == ["weights"]
