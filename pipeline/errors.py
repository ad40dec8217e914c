"""Every error the library raises on purpose.

::

    HeadstartError
    ├── InputError          something the user gave is not what was expected: a folder, a setting, a CSV
    │   ├── SettingError    a setting is out of its range, or does not go with another; nothing was done
    │   ├── CutError        the layer is no place where the network can be cut
    │   └── WeightsError    the weights are not there, or are not those of this network
    ├── ImageError          one image cannot be used; the message is its reason in the quarantine
    ├── ArtefactError       a file that the pipeline wrote is missing, damaged or of another kind
    │   └── SpecError       features and head were made under different specs
    ├── BusyError           another process is computing the same rows
    ├── WorkersError        the processes that compute, or their scheduler, are lost
    └── StorageError        the disk fails, is full or cannot be written: the run stops

A message is one line. It names the file or the setting, then what was expected, then what was received. The library
speaks Python. In backticks stands a setting, with its value or without, or the step that is the remedy::

    `val_fraction`    `folds=5`    `stratify=True`    `head="knn"`    `hs.prepare`    `hs.prepare(exclude=...)`

So do warnings, and the help of settings. The command line translates these into its options and commands; hence nothing
else stands in backticks.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Final, Self

from pipeline.wording import printable_lines

SETTING: Final = r"(?P<setting>\w+)(?:=(?P<value>[^`,]*))?"
NAMED: Final = re.compile(rf"`(?:hs\.(?P<step>\w+)(?:\((?P<arguments>[^`]*)\))?|{SETTING})`")
"""What stands in backticks in a message: a step, with arguments or without, or a setting."""


class HeadstartError(Exception):
    """The root of the tree; the command line prints its message and exits with status 1."""

    def __str__(self) -> str:
        """Return the message; names in it can be those of strangers."""
        return printable_lines(super().__str__())

    @property
    def field(self) -> str | None:
        """The setting that the message names first, such as ``val_fraction``."""
        return self._first("setting")

    @property
    def step(self) -> str | None:
        """The step that is the remedy, such as ``prepare``."""
        return self._first("step")

    def _first(self, what: str) -> str | None:
        return next((found[what] for found in NAMED.finditer(str(self)) if found[what]), None)


class InputError(HeadstartError):
    """Something the user gave is not what was expected.

    Attributes
    ----------
    expected, received : str or None
        Where one setting was refused: what was expected of it, and what was received.
    """

    expected: str | None = None
    received: str | None = None

    @classmethod
    def of(cls, field: str, expected: str, received: object, remedy: str = "") -> Self:
        """Return the error of a setting; `received` is told as it prints, None as none."""
        told = "none" if received is None else str(received)
        error = cls(f"`{field}`: expected {expected}, received {told}{remedy and f': {remedy}'}")
        error.expected, error.received = expected, told
        return error


class SettingError(InputError):
    """A setting is out of its range, or does not go with another one; told before anything was done."""


class CutError(InputError):
    """The named layer does not exist, or the network cannot be cut there."""


class WeightsError(InputError):
    """Pretrained weights are not on this machine, or do not fit the network they are meant for."""


class ImageError(HeadstartError):
    """One image cannot be used; the message is the reason, without the path."""


class ArtefactError(HeadstartError):
    """A file written by the pipeline is missing, damaged or of another kind."""


class SpecError(ArtefactError):
    """Features and head were made under different specs; the message names the field."""


class EditedWarning(UserWarning):
    """A file that people may edit by hand is not as the pipeline wrote it, or nobody can tell; the run goes on."""


class BusyError(HeadstartError):
    """Another process holds what this one needs; the message says who."""


class WorkersError(HeadstartError):
    """The processes that compute are lost, or nobody can reach them; what they stored is kept."""


class StorageError(HeadstartError):
    """The disk fails, is full, or cannot be written."""


@contextlib.contextmanager
def storing(failed: str) -> Iterator[None]:
    """Raise StorageError, which begins with what `failed`, for an error of the file system."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{failed}: {error.strerror or error}") from error


@contextlib.contextmanager
def naming_extras() -> Iterator[None]:
    """Raise InputError in place of the error of an import where TensorFlow or Keras is missing: they are an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("tensorflow", "keras"):
            raise
        raise InputError("expected TensorFlow to be installed: pip install 'headstart[cpu]'") from error
