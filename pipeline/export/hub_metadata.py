"""What the Hugging Face Hub reads of a model card: YAML between two lines of dashes, before the Markdown.

Its keys are those of the Hub's model card specification. A metric has its 95 % interval among its ``args``, the one
place there for what the Hub does not compare. Each scalar is written as in JSON, which YAML takes as it is.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pipeline.wording import printable

TASK: Final = {"type": "image-classification", "name": "Image classification"}
TYPES: Final = {"macro_f1": "f1", "ece": "expected_calibration_error"}  # the others are called there as here
PLACES: Final = 4  # of a metric: none is then written with an exponent, which readers of YAML take for text


def front_matter(
    name: str,
    *,
    tags: Sequence[str],
    license_id: str | None,
    metrics: Mapping[str, float] | None,
    revision: str | None,
) -> str:
    """Return the lines before a card, both of dashes included.

    A model can be found by its `tags`: its formats and its base. `license_id` is as the Hub writes it: ``apache-2.0``.
    `metrics` are of `pipeline.evaluation.predictions_file.read_metrics`, `revision` is the sha256 of the manifest of
    the images.
    """
    judged = _metrics(metrics) if metrics else []
    document: dict[str, Any] = {
        **({"license": license_id} if license_id else {}),
        "library_name": "headstart",
        "pipeline_tag": TASK["type"],
        "tags": ["headstart", *tags],
    }
    if metrics and judged:
        dataset = {"type": "imagefolder", "name": "test images", "split": "test", "args": {"images": metrics["images"]}}
        dataset |= {"revision": revision} if revision else {}
        document["metrics"] = [one["type"] for one in judged]
        document["model-index"] = [
            {"name": name, "results": [{"task": TASK, "dataset": dataset, "metrics": judged}]},
        ]
    return "\n".join(["---", *_lines(document), "---", "", ""])


def _metrics(numbers: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the metrics that have an interval, of the probabilities as they are given."""
    names = [name for name in numbers if f"{name}_low" in numbers and not name.startswith("uncalibrated_")]
    return [
        {
            "type": TYPES.get(name, name),
            "name": name.replace("_", " "),
            "value": round(numbers[name], PLACES),
            "args": {"interval_95": [round(numbers[f"{name}_{end}"], PLACES) for end in ("low", "high")]},
        }
        for name in names
    ]


def _lines(value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield f"{key}:"
            yield from (f"  {line}" for line in _lines(inner))
        elif isinstance(inner, list) and inner and isinstance(inner[0], Mapping):
            yield f"{key}:"
            for one in inner:
                first, *rest = _lines(one)
                yield from (f"- {first}", *(f"  {line}" for line in rest))
        else:
            yield f"{key}: {_scalar(inner)}"


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    return json.dumps(printable(value) if isinstance(value, str) else value, ensure_ascii=False, allow_nan=False)
