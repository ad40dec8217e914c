"""The forms of requests and responses: TensorFlow Serving's REST predict call, and a plain upload.

What is said of TensorFlow Serving here follows its documentation, "RESTful API": ``instances`` in rows or ``inputs`` in
columns, bytes as ``{"b64": …}``, names left out where there is but one.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.inference.out_of_distribution import Kind
from pipeline.inference.serving.model_service import Answer

INPUT: Final = "image_bytes"
PROBABILITIES: Final = "serving_default"
LABELS: Final = "labels"
VERSION: Final = "1"
MOST_MARKS: Final = 16  # brackets, braces and commas an image: to ask for one takes three


class Failure(BaseModel):
    """Why there is no answer."""

    error: str


class PredictRequest(BaseModel):
    """TensorFlow Serving's request: rows in ``instances``, or columns in ``inputs``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"signature_name": PROBABILITIES, "instances": [{"b64": "/9j/4AAQ…"}]}]}
    )

    signature_name: Annotated[
        str,
        Field(description=f"`{PROBABILITIES}` gives probabilities, `{LABELS}` label, confidence and probabilities."),
    ] = PROBABILITIES
    instances: Annotated[
        list[Any] | None, Field(description='Image files, each as `{"b64": …}` or `{"image_bytes": {"b64": …}}`.')
    ] = None
    inputs: Annotated[
        Any, Field(description='In place of `instances`: `[{"b64": …}, …]` or `{"image_bytes": [{"b64": …}, …]}`.')
    ] = None

    @property
    def columns(self) -> bool:
        """Whether the answer is wanted in columns."""
        return self.instances is None

    def files(self, *, most: int) -> list[bytes]:
        """Return the image files; HTTPException, with status 400, names the instance that is none."""
        if (self.instances is None) == (self.inputs is None):
            raise HTTPException(400, "expected either instances or inputs, received both or neither")
        given = self.inputs if self.instances is None else self.instances
        if isinstance(given, dict) and given.keys() == {INPUT}:
            given = given[INPUT]
        if not isinstance(given, list):
            raise HTTPException(400, f"inputs: expected a list of images, received {type(given).__name__}")
        if len(given) > most:
            raise HTTPException(400, f"expected at most {most:,} images, received {len(given):,}")
        return [_file(instance, place) for place, instance in enumerate(given)]


class PredictResponse(BaseModel):
    """TensorFlow Serving's response to ``instances``; to ``inputs`` it holds ``outputs``."""

    predictions: list[Any]


class TrainingPhoto(BaseModel):
    """A training photo that is like the one that was sent."""

    path: str
    label: str
    similarity: Annotated[float, Field(description="Cosine of the features.")]
    thumbnail: Annotated[str | None, Field(description="Where it can be seen, if its file is here.")] = None


class UploadResponse(BaseModel):
    """What was found in a photo."""

    label: str
    probabilities: Annotated[dict[str, float], Field(description="One a class, adding up to 1.")]
    familiarity: Annotated[
        float | None,
        Field(
            description="The fraction of training photos that lie at least as far from the others, the photo itself "
            "counted."
        ),
    ] = None
    kind: Annotated[
        Kind | None,
        Field(description="Whether that fraction shows the photo to be of the training photos' kind, or of another."),
    ] = None
    farther: Annotated[int | None, Field(description="How many training photos lie at least as far.")] = None
    compared_with: Annotated[int | None, Field(description="Of how many.")] = None
    nearest: Annotated[list[TrainingPhoto], Field(description="The most similar training photos.")] = []
    heat_map: Annotated[
        str | None, Field(description="The photo with the evidence for a class drawn over it, as a data URL.")
    ] = None


def parsed(body: bytes, most: int) -> tuple[PredictRequest, list[bytes]]:
    """Return the request that a body holds, and its image files, at most so many.

    HTTPException, with status 400, says what is wrong with the body.
    """
    # Nobody else gets a turn while JSON is parsed, and a body of nothing but brackets takes seconds.
    if (marks := sum(map(body.count, (b"[", b"{", b",")))) > (allowed := MOST_MARKS * (most + 1)):
        raise HTTPException(400, f"expected at most {allowed:,} brackets and commas, received {marks:,}")
    try:
        request = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(400, told(error.errors())) from error
    return request, request.files(most=most)


def told(errors: Iterable[Mapping[str, Any]]) -> str:
    """Say in one line what is not as described."""
    return "; ".join(": ".join(filter(None, [".".join(map(str, one["loc"])), one["msg"]])) for one in errors)


def response(request: PredictRequest, answers: Sequence[Answer], classes: Sequence[str]) -> dict[str, Any]:
    """Return the response to a predict request; HTTPException, with status 400, if there is no such signature."""
    if request.signature_name == PROBABILITIES:
        rows: list[Any] = [answer.probabilities for answer in answers]
        return {"outputs": rows} if request.columns else {"predictions": rows}
    if request.signature_name != LABELS:
        raise HTTPException(
            400, f"signature_name: expected {PROBABILITIES} or {LABELS}, received {request.signature_name!r}"
        )
    named = [
        {
            "label": classes[answer.code],
            "confidence": answer.probabilities[answer.code],
            "probabilities": answer.probabilities,
        }
        for answer in answers
    ]
    if not request.columns:
        return {"predictions": named}
    names = ("label", "confidence", "probabilities")
    return {"outputs": {name: [row[name] for row in named] for name in names}}


def status() -> dict[str, Any]:
    """Return the state of the model, as TensorFlow Serving tells it."""
    available = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": VERSION, "state": "AVAILABLE", "status": available}]}


def metadata(name: str, classes: Sequence[str]) -> dict[str, Any]:
    """Return the signatures, as TensorFlow Serving tells them, and the classes in the order of the probabilities."""
    count = len(classes)
    probabilities = {"probabilities": _tensor("DT_FLOAT", -1, count)}
    labels = {"label": _tensor("DT_STRING", -1), "confidence": _tensor("DT_FLOAT", -1)}
    signatures = {
        PROBABILITIES: _signature(probabilities),
        LABELS: _signature(labels | probabilities),
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": VERSION},
        "metadata": {"signature_def": {"signature_def": signatures}, "classes": list(classes)},
    }


def _signature(outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "inputs": {INPUT: _tensor("DT_STRING", -1)},
        "outputs": outputs,
        "method_name": "tensorflow/serving/predict",
    }


def _tensor(dtype: str, *sizes: int) -> dict[str, Any]:
    return {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(size)} for size in sizes], "unknown_rank": False}}


def _file(instance: Any, place: int) -> bytes:
    """Return the bytes of one instance."""
    if isinstance(instance, dict) and instance.keys() == {INPUT}:
        instance = instance[INPUT]
    text = instance.get("b64") if isinstance(instance, dict) else None
    if not isinstance(text, str):
        raise HTTPException(
            400, f'instance {place}: expected {{"b64": …}} with an image file, received {str(instance)[:40]!r}'
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"instance {place}: expected base64: {error}") from error
