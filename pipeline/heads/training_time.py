"""What a training took, in a file of its own: a head's or a model's own bytes must not depend on the clock."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pipeline.storage.json_files import Document, fields_of, publish


@dataclass(frozen=True)
class Cost:
    """The price of a head or a model.

    Attributes
    ----------
    stage : str
        What was paid for: ``train``, ``finetune``, or ``join`` for a model whose layers are those of its head and base.
    seconds : float
        Wall clock, from reading the inputs to the stored result, the loading of libraries included.
    head : str or None
        Name of the head that a model is joined or fine-tuned from; None for a head.
    """

    stage: str
    seconds: float
    head: str | None = None


COST: Final = Document(
    "a report of a training", "`hs.train` or `hs.finetune` with a report", fields_of(Cost), sealed=True
)


def write(path: Path, cost: Cost, **more: float) -> None:
    """Publish a cost as JSON, and what else is to be told beside it."""
    publish(path, asdict(cost) | more)


def read(path: Path) -> Cost:
    """Read a cost back; ArtefactError if it is missing or damaged."""
    document = COST.read(path)
    return Cost(document["stage"], document["seconds"], document.get("head"))
