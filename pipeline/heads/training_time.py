"""What a training took, in a file of its own: a head's or a model's own bytes must not depend on the clock."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.errors import ArtefactError
from pipeline.storage.atomic import published


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


def write(path: Path, cost: Cost, **more: float) -> None:
    """Publish a cost as JSON, and what else is to be told beside it.

    Parameters
    ----------
    path : Path
    cost : Cost
    more : number
        Other keys.
    """
    with published(path) as temporary:
        temporary.write_text(json.dumps(asdict(cost) | more, indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> Cost:
    """Read a cost back.

    Raises
    ------
    ArtefactError
        It is missing or damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        names = [field.name for field in fields(Cost)]
        if not isinstance(document, dict) or not document.keys() >= set(names):
            raise ValueError(f"not an object of {', '.join(names)}")
        seconds = document["seconds"]
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise ValueError(f"seconds {seconds!r}")
        return Cost(**{name: document[name] for name in names})
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"{path}: expected a report written by 'headstart train --report' or 'finetune --report': {error}"
        ) from error
