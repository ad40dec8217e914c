"""What a user can ask of `export`; the defaults stand here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.features.settings import cache_setting
from pipeline.models.settings import weights_setting
from pipeline.photos.remote import Root
from pipeline.setting import Need, setting

FormatName = Literal["keras", "saved_model", "tflite", "onnx", "web", "openvino"]
Card = Literal["markdown", "hugging-face"]
Quantization = Literal["none", "dynamic", "int8"]


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Which files to write, and which photos to compare them and to calibrate on."""

    format: tuple[FormatName, ...] = setting(
        ("onnx",), "Format to write: several separated by commas, the option several times, or all."
    )
    quantize: tuple[Quantization, ...] = setting(
        ("none",),
        "TFLite: a file in float32, with weights of 8 bits, or with weights and activations of 8 bits.",
        needs=(Need("format", ("tflite",)),),
    )
    images: Root | None = setting(
        None, "Folder of the images of `manifest`, to compare the formats and to calibrate int8 on."
    )
    manifest: Path | None = setting(None, "The manifest of these images.", unset="compare nothing")
    sample: int = setting(400, "Most test images to compare the formats on.", least=1, needs=(Need("images"),))
    calibration_images: int = setting(
        200, "Most training images that int8 takes its ranges from.", least=1, needs=(Need("quantize", ("int8",)),)
    )
    evaluation: Path | None = setting(
        None, "Folder that `hs.evaluate` wrote for the model; the model card shows its numbers."
    )
    onnxruntime_web: Path | None = setting(
        None,
        "The npm package of the page's runtime, as npm packs it.",
        unset="fetched by npm once, and kept in the cache",
        only="file",
        needs=(Need("format", ("web",)),),
    )
    card: Card = setting(
        "markdown",
        "The model card: MODEL_CARD.md, or README.md with the metadata that the Hugging Face Hub reads before it.",
    )
    license: str | None = setting(
        None,
        "The model's license in these metadata, as the Hub writes it: apache-2.0.",
        unset="not stated",
        metavar="ID",
        needs=(Need("card", ("hugging-face",)),),
    )
    weights: str | None = weights_setting()
    cache: Path | None = cache_setting()
