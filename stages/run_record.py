"""What ``headstart run`` keeps of its steps in ``run.json``, and how long those still take that are to come.

Of every finished step it keeps the command, the version, the digests of what it read and wrote, and its seconds.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pipeline.errors import ArtefactError
from pipeline.photos.remote import Root
from pipeline.storage import digests
from pipeline.storage.json_files import OBJECT, Document, maybe, number, publish
from pipeline.wording import duration
from stages.console import warn

RECORD: Final = Document(
    "the steps that were run",
    "`hs.run`",
    {"steps": OBJECT, "seconds": maybe(replace(OBJECT, each=number(0)))},
    version=1,
    sealed=True,
)
# About the seconds of a first run over 600 photos by two busy cores: what one step says of the others before any run.
SHARES: Final[Mapping[str, float]] = {
    "prepare": 16,
    "probe": 100,
    "extract": 40,
    "audit": 19,
    "train": 1,
    "evaluate": 7,
    "finetune": 120,
    "compare": 6,
    "report": 25,
}


@dataclass(frozen=True)
class Step:
    """A command with its words, the files and folders that it reads, and those that it writes."""

    command: str
    words: tuple[Any, ...]
    reads: tuple[Root, ...]
    writes: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What tells it from the other steps: the command, and where the result goes."""
        return f"{self.command} {self.writes[0].name}"


class Done:
    """The steps that were run, as ``run.json`` keeps them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        if path.exists():
            try:
                known = RECORD.read(path)
                self.steps, self.seconds = known["steps"], known.get("seconds") or {}
            except ArtefactError as error:
                warn(f"{error}; all steps are run")

    def holds(self, step: Step) -> bool:
        """Whether the last run of a step is as good as another one."""
        known = self.steps.get(step.name)
        return known is not None and None not in known["read"].values() and known == _state(step)

    def add(self, step: Step, read: dict[str, Any], seconds: float) -> None:
        """Keep that a step was run, and how long it took; `read` are the digests of before."""
        self.steps[step.name] = _state(step) | {"read": read}
        self.seconds[step.name] = round(seconds, 1)
        publish(self.path, {"format": 1, "steps": self.steps, "seconds": self.seconds})


def _state(step: Step) -> dict[str, Any]:
    return {
        "command": [step.command, *map(str, step.words)],
        "version": importlib.metadata.version("headstart"),
        "read": read_digests(step),
        "written": {str(place): _digest(place, _content) for place in step.writes},
    }


def read_digests(step: Step) -> dict[str, str | None]:
    """Return the digests of what a step reads. `prepare` reads the photos, which may be millions: none is opened."""
    of_file = _looks if step.command == "prepare" else _content
    return {str(place): _digest(place, of_file) for place in step.reads}


def _content(path: Path) -> str:
    return digests.of_file(path)


def _looks(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _digest(place: Root, of_file: Callable[[Path], str]) -> str | None:
    """Return what stands for a file, or a folder with all in it; None for what is missing or lies behind an address."""
    if not isinstance(place, Path) or not place.exists():
        return None
    if place.is_file():
        return of_file(place)
    listed = hashlib.sha256()
    for folder, folders, files in os.walk(place, followlinks=True):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(files)):
            with contextlib.suppress(FileNotFoundError):  # a broken link
                listed.update(json.dumps([str(path), of_file(path)]).encode())
    return listed.hexdigest()


class TimeLeft:
    """How long all steps of a run still take, as it is shown beside what the running one tells of itself.

    A step is expected to take as long as in the last run. Where there was none, it takes its share, of `SHARES`, at the
    pace of all steps whose seconds are known. A step that counts something takes at least what its count says.
    """

    def __init__(self, known: Mapping[str, float], now: float) -> None:
        self._known, self._started, self._began = dict(known), now, now
        self._step: Step | None = None
        self._label = ""
        self._coming: list[Step] = []

    def begin(self, label: str, step: Step, coming: Sequence[Step], now: float) -> None:
        """Note which step begins, how it is called on the display, and which ones come after it."""
        self._label, self._step, self._coming, self._began = label, step, list(coming), now

    def end(self, now: float) -> float:
        """Note that the step is done, and return its seconds."""
        seconds = now - self._began
        if self._step:
            self._known[self._step.name] = seconds
        return seconds

    def seconds(self, left: float | None, now: float) -> float | None:
        """Return the seconds left of all steps, by those that the running one says it has; None if none are known."""
        if self._step is None:
            return None
        running, gone = self._expected(self._step), now - self._began
        if running is None and left is None:
            return None
        here = max(left or 0.0, (running or 0.0) - gone)
        coming = [self._expected(step, {self._step.name: gone + here}) for step in self._coming]
        return here + sum(seconds or 0.0 for seconds in coming)

    def told(self, text: str, left: float | None, now: float) -> tuple[str, float, float | None]:
        """Return what is shown of all steps: a text, the seconds gone, and those in all."""
        whole, gone = self.seconds(left, now), now - self._started
        about = "" if whole is None else f", about {duration(whole)} left"
        return f"{self._label}{about}{': ' * bool(text)}{text}", gone, None if whole is None else gone + whole

    def _expected(self, step: Step, running: Mapping[str, float] = MappingProxyType({})) -> float | None:
        if step.name in self._known:
            return self._known[step.name]
        known = self._known | dict(running)
        shares = sum(SHARES[name.partition(" ")[0]] for name in known)
        return SHARES[step.command] * sum(known.values()) / shares if shares else None
