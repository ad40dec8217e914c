"""All that stands on the page, and all that its script knows, from what was read and computed."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.evaluation.predictions_file import PREDICTIONS
from pipeline.features import spec
from pipeline.photos.splits import SPLITS
from pipeline.report import charts
from pipeline.report.collect import Inputs, Read
from pipeline.report.sections import data, feature_map, models, next_steps, overview
from pipeline.report.sections.feature_map import Mapped
from pipeline.report.sections.layers import layers
from pipeline.report.sections.models import Explain
from pipeline.report.sections.overview import Looks
from pipeline.report.thumbnails import Atlas

PANELS: Final = 8  # models whose errors are shown
PATH_SHOWN: Final = 96  # characters


def named(read: Read) -> list[bytes]:
    """Return digests of the images that the page names, the most wanted first."""
    wrong = [_wrong(read, place) for place in range(len(read.models))]
    return list(
        chain(
            *(own[: models.MISTAKES] for own in wrong[:PANELS]),
            data.wanted(read.audited, read.digests),
            *data.samples(read.distinct).values(),
            *wrong,
        )
    )


def _wrong(read: Read, place: int) -> list[bytes]:
    """Return the digests of a model's mistakes, the most confident first."""
    one = read.models[place]
    return [bytes.fromhex(one.predictions.digests[row]) for row in models.mistaken(one)]


def shown(
    inputs: Inputs,
    title: str,
    read: Read,
    found: Mapped,
    *,
    told: dict[str, Any],
    looks: Looks | None,
    explain: Explain | None,
) -> dict[str, Any]:
    """Return what the templates show; `told` is what they say of the origin."""
    return {
        "title": title,
        "overview": overview.overview(
            read.models, read.compared, read.audited, looks, random_base=bool(spec.random_base(found.spec))
        ),
        "ranking": overview.ranking(read.models, read.compared),
        "data_section": data.data(read.everything, read.quarantine, read.audited, found.gallery, read.digests),
        "layers": layers(read.probed),
        "made": [models.made(one) for one in read.models],
        "unknown": [one.name for one in read.models if one.record is None],
        "panels": [models.errors(one, found.gallery, inputs.images, explain) for one in read.models[:PANELS]],
        "unpanelled": [one.name for one in read.models[PANELS:]],
        "explains": explain is not None,
        "map": feature_map.section(found, read.everything.classes, set(_wrong(read, 0)), len(read.distinct)),
        "provenance": told,
        "next_steps": next_steps.steps(
            next_steps.facts(read, found.spec), **next_steps.places(inputs, read, found.spec)
        ),
    }


def files(inputs: Inputs, read: Read) -> dict[str, Path]:
    """Return the inputs that everything else follows from, by name."""
    predictions = {f"predictions of {one.name}": one.folder / PREDICTIONS for one in read.models}
    return {"manifest": inputs.manifest, "features": inputs.features} | predictions


def known(read: Read, found: Mapped) -> dict[str, Any]:
    """Return what the page's script knows, but for the thumbnails."""
    images, classes = found.gallery.images, read.everything.classes
    code_of = {label: code for code, label in enumerate(classes)}
    tested = [number for number, split in enumerate(images.splits) if split == "test"]
    places = {images.digests[number].tobytes(): place for place, number in enumerate(tested)}
    x, y = charts.on_plane(found.plane.places).astype(int).T.tolist()
    return {
        "classes": classes,
        "splits": SPLITS,
        "images": {
            "path": [_short(path) for path in images.paths],
            "label": images.codes(classes).tolist(),
            "split": [SPLITS.index(split) for split in images.splits],
        },
        "near": found.near.tolist(),
        "cosine": np.rint(1000 * found.cosines).astype(int).tolist(),
        "plane": {"number": found.gallery.mapped.tolist(), "x": x, "y": y},
        "tested": tested,
        "models": [models.for_script(one, places, code_of) for one in read.models[:PANELS]],
        "first": next(iter(data.numbers(_wrong(read, 0), found.gallery)), 0),
    }


def with_thumbnails(known: dict[str, Any], atlas: Atlas) -> dict[str, Any]:
    """Return what the script knows, with how to find each thumbnail in the sheets."""
    width, height = atlas.shapes.T.tolist()
    return known | {
        "images": known["images"] | {"width": width, "height": height},
        "atlas": {"cell": atlas.cell, "columns": atlas.columns, "pixelated": atlas.pixelated},
    }


def _short(path: str) -> str:
    """Shorten a long path in the middle, so that its end stays."""
    if len(path) <= PATH_SHOWN:
        return path
    half = PATH_SHOWN // 2
    return f"{path[: half - 1]}…{path[-half:]}"


def warnings(failures: Sequence[str], atlas: Atlas) -> list[str]:
    """Return what the user should know of the thumbnails."""
    found = []
    if failures:
        more = f" and {len(failures) - 1:,} more" if len(failures) > 1 else ""
        found.append(f"no picture of {failures[0]}{more}")
    if not atlas.sheets and len(atlas.shapes) > len(failures):
        found.append("no thumbnails: the rest of the page leaves no room for them; lower `pictures`")
    return found
