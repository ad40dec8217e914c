import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import atomic
from pipeline.storage.atomic import published, published_folder
from tests import ROOT


@pytest.fixture(autouse=True)
def a_process_that_has_written_nothing() -> Iterator[None]:
    atomic._clear.cache_clear()
    yield
    atomic._clear.cache_clear()


def test_the_name_appears_only_when_the_block_is_over(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.txt"
    with published(path) as temporary:
        temporary.write_text("done")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "done"
    assert os.listdir(path.parent) == ["a.txt"]


def test_an_error_leaves_what_stood_there_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError), published(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_published_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    with published(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    (tmp_path / "plain.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_publishing_from_threads_never_touches_the_umask_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(number: int) -> int:
        path = tmp_path / f"{number}.txt"
        with published(path) as temporary:
            temporary.write_text("x")
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch, ThreadPoolExecutor(4) as pool:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask of all threads was set"))
            modes = set(pool.map(publish, range(100)))
    finally:
        left = os.umask(before)
    assert (modes, left) == ({0o640}, 0o027)


def test_the_file_and_then_its_folder_are_synced_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        events.append("sync " + ("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"))
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    with published(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert events == ["sync file", "rename", "sync folder"]


def test_a_folder_is_published_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with published_folder(tmp_path / "out") as new:
            (new / "inner").mkdir()
            (new / "inner" / content).write_text(content)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "out",
        "out/inner",
        "out/inner/second",
    ]


def test_a_folder_that_was_not_finished_leaves_the_old_one_untouched(tmp_path: Path) -> None:
    with published_folder(tmp_path / "out") as new:
        (new / "file").write_text("old")
    with pytest.raises(RuntimeError), published_folder(tmp_path / "out") as new:
        (new / "file").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "old"


def test_a_folder_comes_back_if_its_successor_cannot_take_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with published_folder(tmp_path / "out") as new:
        (new / "file").write_text("old")
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("the disk fails")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="the disk fails"), published_folder(tmp_path / "out") as new:
        (new / "file").write_text("new")
    assert (tmp_path / "out" / "file").read_text() == "old"


@pytest.mark.parametrize("publish", [published, published_folder])
def test_a_write_to_a_full_disk_names_what_was_to_be_published(publish: Any, tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"), publish(path):
        raise OSError(28, "No space left on device")  # a write knows no name
    with pytest.raises(OSError, match="No such file or directory: 'b'"), publish(path):
        raise OSError(2, "No such file or directory", "b")
    assert os.listdir(tmp_path) == []


WRITE = """
import sys
from pathlib import Path
from pipeline.storage.atomic import published, published_folder

folder = Path(sys.argv[1])
with published(folder / "a.csv") as file, published_folder(folder / "export") as made:
    for path in (file, made / "half"):
        path.write_text("half")
    print(flush=True)
    sys.stdin.readline()
"""


def writing(folder: Path) -> "subprocess.Popen[str]":
    """Start a process that writes a file and a folder; it waits until it may go on."""
    command = [sys.executable, "-c", WRITE, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    return process


def test_what_killed_processes_left_is_cleared_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    of_users = [".a-20260101.csv", ".a-notes.csv", ".export-12345678"]
    for name in of_users:
        (tmp_path / name).write_text("mine")
    with writing(tmp_path) as killed:
        killed.kill()
    left = set(os.listdir(tmp_path)) - set(of_users)
    assert len(left) == 2
    with writing(tmp_path) as living:
        with published(tmp_path / "b.csv"):
            beside = set(os.listdir(tmp_path))
        assert not left & beside
        living.communicate("\n")
        assert living.returncode == 0
    assert sorted(os.listdir(tmp_path)) == sorted([*of_users, "a.csv", "b.csv", "export"])
    assert (tmp_path / "export" / "half").read_text() == "half"


def test_a_folder_that_had_stepped_aside_for_one_that_never_came_is_back_with_the_next_that_is_written(
    tmp_path: Path,
) -> None:
    with published_folder(tmp_path / "out") as new:
        (new / "file").write_text("old")
    killed = f"""
import os
from pathlib import Path
from pipeline.storage.atomic import published_folder

replace, taken = Path.replace, []

def counted(self, target):
    taken.append(self)
    if len(taken) == 2:
        os._exit(9)
    return replace(self, target)

Path.replace = counted
with published_folder(Path({str(tmp_path / "out")!r})) as new:
    (new / "file").write_text("new")
"""
    assert subprocess.run([sys.executable, "-c", killed], cwd=ROOT).returncode == 9
    assert not (tmp_path / "out").exists()
    atomic._clear.cache_clear()  # as in the next process
    with published(tmp_path / "other"):
        pass
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["other", "out"]


@pytest.mark.parametrize("name", ["a" * 251 + ".csv", "\N{SNOWMAN}" * 84 + ".cs", "." + "a" * 254, "a." + "b" * 253])
@pytest.mark.parametrize("publish", [published, published_folder])
def test_any_name_that_a_file_can_have_can_be_published(tmp_path: Path, name: str, publish: Any) -> None:
    assert len(os.fsencode(name)) == 255
    with publish(tmp_path / name):
        pass
    assert os.listdir(tmp_path) == [name]


def test_an_error_in_words_alone_names_the_file_too(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="100 written") as caught, published(tmp_path / "a"):
        raise OSError("4096 requested and 100 written")  # as NumPy does
    assert (caught.value.filename, caught.value.strerror) == (str(tmp_path / "a"), "4096 requested and 100 written")


@pytest.mark.parametrize("publish", [published, published_folder])
def test_a_folder_that_takes_nothing_is_told_by_the_name_that_was_to_be_published(publish: Any) -> None:
    with pytest.raises(OSError, match=r"'/proc/self/a\.csv'"), publish(Path("/proc/self/a.csv")):
        pass


@pytest.mark.parametrize("publish", [published, published_folder])
def test_another_file_that_fails_meanwhile_keeps_its_name(tmp_path: Path, publish: Any) -> None:
    with pytest.raises(OSError, match=r"/\.headstart/rows/a-12345678\.rows'"), publish(tmp_path / "a"):
        (tmp_path / ".headstart" / "rows" / "a-12345678.rows").read_bytes()
