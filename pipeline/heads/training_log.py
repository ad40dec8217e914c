"""Where each epoch's losses, accuracies and learning rate go while a network trains: to TensorBoard, to DVCLive.

A log is a table of rows that come one by one. It holds nothing that a result depends on, and no file of ours reads it.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.errors import InputError
from pipeline.types import Told

RATE: Final = "learning_rate"  # of the epoch's last step, in the rows that are told and not in those that are kept


@dataclass(frozen=True)
class Log:
    """One kind of log.

    Attributes
    ----------
    module : str
        The package that writes it, which comes with the extra of the log's name.
    folder : str
        Where it goes unless a folder is named; empty if one must be.
    open : callable
        Takes the folder; a context of what takes a step and its values by name.
    """

    module: str
    folder: str
    open: "Callable[[str], contextlib.AbstractContextManager[Callable[[int, Mapping[str, float]], object]]]"


@contextlib.contextmanager
def _tensorboard(folder: str) -> Iterator[Callable[[int, Mapping[str, float]], object]]:
    from tensorboardX import SummaryWriter

    def write(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    with SummaryWriter(folder, write_to_disk=True) as writer:
        yield write


@contextlib.contextmanager
def _dvclive(folder: str) -> Iterator[Callable[[int, Mapping[str, float]], object]]:
    from dvclive import Live

    def write(step: int, values: Mapping[str, float]) -> None:
        live.step = step
        for name, value in values.items():
            live.log_metric(name, value)
        live.make_summary()

    # No experiment is kept and no dvc.yaml is edited: the stage that trains is DVC's own.
    with Live(folder, save_dvc_exp=False, dvcyaml=None, report=None) as live:
        yield write


LOGS: Final[Mapping[str, Log]] = {
    "tensorboard": Log("tensorboardX", "", _tensorboard),
    "dvclive": Log("dvclive", "dvclive", _dvclive),
}


@contextlib.contextmanager
def logged(wanted: Sequence[str], told: Told) -> Iterator[Told]:
    """Yield what hands on each epoch's row to `told`, and to the logs, which are opened with the first.

    InputError if there is no such log, its folder is not named, or its package is not installed.
    """
    chosen = [_found(one) for one in wanted]
    if not chosen:
        yield told
        return
    with contextlib.ExitStack() as stack:
        writers: list[Callable[[int, Mapping[str, float]], object]] = []

        def tell(row: dict[str, float]) -> None:
            if not writers:
                writers.extend(stack.enter_context(log.open(folder)) for log, folder in chosen)
            values = {_tag(name): float(value) for name, value in row.items() if name != "epoch"}
            for write in writers:
                write(int(row["epoch"]), values)
            told(row)

        yield tell


def _found(wanted: str) -> tuple[Log, str]:
    name, _, folder = wanted.partition(":")
    log = LOGS.get(name)
    if log is None or not (folder or log.folder):
        raise InputError.of("log", "tensorboard:DIR, dvclive or dvclive:DIR", wanted)
    if importlib.util.find_spec(log.module) is None:
        raise InputError.of("log", f"{log.module} to be installed", "none", f"pip install 'headstart[{name}]'")
    return log, folder or log.folder


def _tag(name: str) -> str:
    """Return a name as these tools group them: ``train/loss`` beside ``val/loss``."""
    if name == RATE:
        return name
    return f"val/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}"
