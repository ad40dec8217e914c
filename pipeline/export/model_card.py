"""The model card: what was exported, what it was measured to do, what it is not for, and how to call it."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import ArtefactError
from pipeline.evaluation import predictions_file
from pipeline.export import hub_metadata
from pipeline.export.formats import Format
from pipeline.export.parity import ParityRow
from pipeline.features import spec
from pipeline.heads.store import HEAD_FILE
from pipeline.models.joined_head import is_graph
from pipeline.models.model import MODEL_FILE, Model
from pipeline.photos import manifest
from pipeline.photos.splits import SPLITS
from pipeline.storage.digests import of_file
from pipeline.wording import counted, interval, number, printable

PHOTO: Final = 'PIL.ImageOps.exif_transpose(PIL.Image.open("photo.jpg")).convert("RGB")'
NAMED: Final = 'print(dict(zip(json.load(open("classes.json", encoding="utf-8")), probabilities.tolist())))'
MARKDOWN: Final = re.compile(r"[\\`*_{}\[\]()!|~:@]")  # what acts in a line, besides HTML's own characters
ARITHMETIC: Final = {"": "float32", "dynamic": "float32, weights of 8 bits", "int8": "8 bits"}
SQUARES: Final = {
    "squash": "{photo}.resize(({size}, {size}), PIL.Image.Resampling.BILINEAR)",
    "crop": "PIL.ImageOps.fit({photo}, ({size}, {size}), PIL.Image.Resampling.BILINEAR)",
    "pad": "PIL.ImageOps.pad({photo}, ({size}, {size}), PIL.Image.Resampling.BILINEAR)",
}
CALLS: Final = {
    "keras": (
        "import json, keras, numpy, PIL.Image, PIL.ImageOps",
        "photo = {photo}",
        'model = keras.saving.load_model("{path}")',
        "probabilities = model.predict_on_batch(numpy.asarray(photo)[None])[0]",
    ),
    "tensorflow": (
        "import json, tensorflow as tf",
        'model = tf.saved_model.load("{path}")',
        'photo = tf.constant([open("photo.jpg", "rb").read()])',
        'probabilities = model.signatures["image_bytes"](image_bytes=photo)["probabilities"][0].numpy()',
    ),
    "litert": (
        "import json, numpy, PIL.Image, PIL.ImageOps, ai_edge_litert.interpreter as litert",
        "photo = {photo}",
        'run = litert.Interpreter("{path}").get_signature_runner()',
        'probabilities = run(pixels=numpy.asarray(photo)[None])["probabilities"][0]',
    ),
    "onnxruntime": (
        'import json, numpy, os, PIL.Image, PIL.ImageOps; os.environ["ORT_DISABLE_TELEMETRY"] = "1"',
        "import onnxruntime  # after its telemetry is off",
        "photo = {photo}",
        'session = onnxruntime.InferenceSession("{path}")',
        'probabilities = session.run(["probabilities"], {{"pixels": numpy.asarray(photo)[None]}})[0][0]',
    ),
    "openvino": (
        'import json, numpy, PIL.Image, PIL.ImageOps, sys; sys.modules["openvino_telemetry"] = None',
        "import openvino  # after its telemetry is off",
        "photo = {photo}",
        'model = openvino.Core().compile_model("{path}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})',
        'probabilities = model(numpy.asarray(photo)[None])["probabilities"][0]',
    ),
}


@dataclass(frozen=True)
class Facts:
    """What a card is to tell besides the model itself.

    Attributes
    ----------
    manifest_path : Path or None
        Of the data; its images are counted.
    evaluation : Path or None
        A folder of `pipeline.evaluation.evaluate.evaluate`.
    formats : sequence of Format
    parity : sequence of ParityRow
        Empty if nothing was compared.
    calibrated_on : dict or None
        The images that int8 was calibrated on: ``images`` and ``sha256`` of their digests.
    """

    manifest_path: Path | None
    evaluation: Path | None
    formats: Sequence[Format]
    parity: Sequence[ParityRow]
    calibrated_on: Mapping[str, Any] | None


def snippet(row: Format, *, size: int, geometry: str) -> str:
    """Return a few lines of Python that call one format on ``photo.jpg`` in the folder of the export."""
    photo = PHOTO if row.size == "any" else SQUARES[geometry].format(photo=PHOTO, size=size)
    lines = [line.format(photo=photo, path=row.path) for line in CALLS[row.runtime]]
    return "\n".join([*lines, NAMED])


def written(model: Model, facts: Facts) -> str:
    """Return the card as Markdown.

    ArtefactError if the manifest or the evaluation is missing or damaged, or of another model's classes.
    """
    sections = {
        "What it is": _what(model),
        "Data": _data(facts),
        "How good it is": _metrics(facts.evaluation),
        "Calibration and threshold": _calibration(model),
        "Formats": _formats(model, facts),
        "How to call it": _calls(model, facts.formats),
        "Limits": _limits(model, facts.formats),
        "Spec": ["```json", json.dumps(model.spec, indent=2, sort_keys=True), "```"],
    }
    parts = [f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items()]
    warnings = [f"**Warning:** {warning}." for warning in spec.random_base(model.spec)]
    return "\n\n".join([f"# Image classifier of {len(model.classes)} classes", *warnings, *parts]) + "\n"


def metadata(model: Model, facts: Facts, license_id: str | None) -> str:
    """Return what the Hugging Face Hub reads of the card, to stand before it; errors are those of `written`."""
    name = model.spec["backbone"]["name"]
    return hub_metadata.front_matter(
        model.directory.resolve().name,
        tags=[row.name for row in facts.formats] + ([] if is_graph(model.spec) else [name]),
        license_id=license_id,
        metrics=predictions_file.read_metrics(facts.evaluation) if facts.evaluation else None,
        revision=of_file(facts.manifest_path) if facts.manifest_path else None,
    )


def _what(model: Model) -> list[str]:
    made, epochs = model.spec, len(model.history)
    trained = (
        f"{counted(epochs, 'epoch')} of fine-tuning"
        if epochs and not model.joined_from
        else "none of the base was trained further"
    )
    weights = made["weights"].get("sha256")
    source = f"weights with sha256 `{weights}`" if weights else "which began with random weights"
    name = f"a graph in a file ({made['backbone']['name']})" if is_graph(made) else _text(made["backbone"]["name"])
    record = HEAD_FILE if model.joined_from == model.identity else MODEL_FILE
    return [
        f"A network from an image to the probabilities of {len(model.classes)} classes: {_listed(model.classes)}.",
        f"Its base is {name}, {source}; {trained}. sha256 of its `{record}`: `{model.identity}`.",
        "",
        f"It sees squares of {model.size} px, made from RGB of 8 bits by the geometry `{made['resize']}` and an "
        "antialiased bilinear resize, which is Pillow's and part of the graph.",
    ]


def _data(facts: Facts) -> list[str]:
    if facts.manifest_path is None:
        return ["Not stated: the export was made without a manifest."]
    table = manifest.read(facts.manifest_path)
    counts = table.counts()
    lines = ["| class | " + " | ".join(SPLITS) + " |", "|---|" + "---:|" * len(SPLITS)]
    for label, of_split in counts.items():
        lines.append(f"| {_text(label)} | " + " | ".join(f"{of_split[split]:,}" for split in SPLITS) + " |")
    digest = of_file(facts.manifest_path)
    return [f"{len(table):,} images, by a manifest with sha256 `{digest}`:", "", *lines]


def require_its_evaluation(model: Model, evaluation: Path) -> None:
    """Raise ArtefactError unless an evaluation is that of a model, or of the head that it is, joined to its base."""
    subject = predictions_file.read_evaluated(evaluation)
    if subject.identity != model.identity and (model.joined_from is None or subject.head != model.joined_from):
        raise ArtefactError(
            f"{evaluation}: expected an evaluation of {model.directory}, received one of another head or model: run "
            f"`hs.evaluate` on {model.directory}"
        )


def _metrics(evaluation: Path | None) -> list[str]:
    if evaluation is None:
        return ["Not stated: the export was made without an evaluation."]
    numbers = predictions_file.read_metrics(evaluation)
    lines = ["| metric | value [95 % interval] |", "|---|---|"]
    for name, value in numbers.items():
        if name == "images" or name.endswith(("_low", "_high")):
            continue
        low, high = numbers.get(f"{name}_low"), numbers.get(f"{name}_high")
        written = number(value) if low is None or high is None else interval(value, low, high)
        lines.append(f"| {_text(name.replace('_', ' '))} | {written} |")
    return [f"On {numbers['images']:,} test images, which had no part in training:", "", *lines]


def _calibration(model: Model) -> list[str]:
    calibration, threshold = model.document.get("calibration"), model.threshold
    if calibration:
        first = f"The probabilities are calibrated with the temperature {calibration['temperature']:.4f}, in the graph."
    else:
        first = "The probabilities are those of the head; no temperature was fitted."
    if threshold:
        second = (
            f"An image is given the label {_text(threshold['positive'])} from a probability of "
            f"{threshold['value']:.4f} on. The graph does not decide: it gives probabilities."
        )
    else:
        second = "The label of an image is its most probable class."
    return [first, second]


def _formats(model: Model, facts: Facts) -> list[str]:
    takes = {"any": "any size", "model": f"{model.size} x {model.size}"}
    lines = ["| format | file | takes | arithmetic |", "|---|---|---|---|"]
    for row in facts.formats:
        arithmetic = ARITHMETIC[row.name.partition("-")[2]]
        lines.append(f"| {row.name} | `{row.path}` | uint8 RGB, {takes[row.size]} | {arithmetic} |")
    if facts.calibrated_on:
        count, digest = facts.calibrated_on["images"], facts.calibrated_on["sha256"]
        lines += ["", f"int8 was calibrated on {count:,} training images; sha256 of their digests: `{digest}`."]
    if not facts.parity:
        return [*lines, "", "They were not compared with the model on images."]
    lines += [
        "",
        f"On {facts.parity[0].images:,} test images, each format by its own runtime against the model:",
        "",
        "| format | labels agree | largest difference of a probability | ms an image | MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for found in facts.parity:
        difference = max(found.largest_difference, found.largest_difference_from_files or 0.0)
        lines.append(
            f"| {found.format} | {found.agreeing:,} of {found.clear:,} | {difference:.1e} | {found.milliseconds:.1f} "
            f"| {found.megabytes:.1f} |"
        )
    return lines


def _calls(model: Model, formats: Sequence[Format]) -> list[str]:
    lines = ["In the folder of this file, with `photo.jpg` in it:"]
    for row in formats:
        code = snippet(row, size=model.size, geometry=model.spec["resize"])
        lines += ["", f"{row.name}:", "", "```python", *code.splitlines(), "```"]
        if row.name == "web":
            lines += ["", "And as a page, at http://localhost:8000:", "", "```sh"]
            lines += [f"python -m http.server -d {row.files[0]}", "```"]
    return lines


def _limits(model: Model, formats: Sequence[Format]) -> list[str]:
    limits = [
        "It knows the classes above and no others: a photo of something else gets one of them, perhaps confidently.",
        "The metrics hold for images like those of the test split, taken in the same way.",
        f"Large JPEGs were decoded at a reduced scale in training, down to {2 * model.size} px; decoded in full and "
        "resized by the graph, they differ by a fraction of a grey level.",
        "Pixels must be upright, and of 8 bits a channel. Transparency was composited on white in training; "
        '`convert("RGB")` drops it instead.',
    ]
    runtimes = {row.runtime for row in formats}
    if "tensorflow" in runtimes:
        limits.append(
            "SavedModel: the signature `pixels` takes one image (height, width, 3) or several of one size "
            "(n, height, width, 3), uint8; `image_bytes` takes n whole JPEG or PNG files, turns them upright by "
            "EXIF's orientation and composites transparency. It refuses PNGs of fewer than 8 bits a channel."
        )
    if "openvino" in runtimes:
        limits.append(
            "OpenVINO computes in bfloat16 where it can unless told `f32` as above, and then the resize is wrong."
        )
    if any(row.name == "web" for row in formats):
        limits.append(
            "The page decodes photos by the browser: elsewhere than in Chromium, a JPEG may be a grey level off. It "
            "takes what the browser can read, so no TIFF."
        )
    if any(row.size == "model" for row in formats):
        limits.append("The int8 file takes squares of the model's size, and its probabilities come in steps of 1/256.")
    limits.append(
        "A graph is a program: the lines above run whatever a file holds, and TensorFlow and Keras let it read and "
        "write files. So run these files only if you would run a program of whoever gave them to you. Headstart, "
        "where it predicts or serves, refuses a graph that does more than compute."
    )
    return [f"* {limit}" for limit in limits]


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(_text(label) for label in classes[:20])
    return shown if len(classes) <= 20 else f"{shown} and {len(classes) - 20} more"


def _text(name: str) -> str:
    """Return a name such that Markdown shows it and does nothing with it: no HTML, link, code or table."""
    escaped = html.escape(" ".join(printable(name, kept="\n").split()))
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", escaped)
