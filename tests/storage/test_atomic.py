import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.atomic import published, published_folder


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
