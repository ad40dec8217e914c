"""Open an exported file with its own runtime, and call it on batches of pixels.

This module knows nothing of the others. It is also a program, which the parity report starts where only NumPy and the
runtime are imported::

    python -I runtimes.py MODEL WORK OUT.npz 3 pixels files

WORK has a folder ``pixels`` of .npy files, uint8 (height, width, 3), and one ``files`` of encoded images. ``OUT.npz``
then has for each ``…_probabilities`` (n + 3, K), the last three of the first image thrice in one call, and
``…_seconds`` (n,), the time of each call with one image.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
MODULES: Final = {
    "keras": "keras",
    "tensorflow": "tensorflow",
    "litert": "ai_edge_litert",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
SUFFIXES: Final = {".keras": "keras", ".tflite": "litert", ".onnx": "onnxruntime", ".xml": "openvino"}


def runtime_of(path: Path) -> str | None:
    """Return which runtime, of `MODULES`, a file or folder is for, by its name; None if it is none."""
    if path.is_dir():
        return "tensorflow" if (path / "saved_model.pb").is_file() else None
    return SUFFIXES.get(path.suffix)


def opened(path: Path) -> Run:
    """Open an exported file, or the folder of a SavedModel.

    Parameters
    ----------
    path : Path
        Whose runtime `runtime_of` knows.

    Returns
    -------
    callable
        From uint8 (n, height, width, 3), RGB, to probabilities, float32 (n, K). Any size will do, but for a TFLite file
        that was quantised to int8.

    Raises
    ------
    ImportError
        The runtime is not installed.
    """
    runtime = runtime_of(path)
    if runtime is None:
        raise ValueError(f"{path}: expected a SavedModel or a file that ends in {', '.join(SUFFIXES)}")
    return _OPEN[runtime](path)


def opened_for_files(path: Path) -> Callable[[Sequence[bytes]], NDArray[np.float32]]:
    """Open a SavedModel for encoded images: a list of n files' bytes to probabilities, float32 (n, K)."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    call = loaded.signatures["image_bytes"]

    def run(files: Sequence[bytes]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = call(image_bytes=tf.constant(list(files)))["probabilities"].numpy()
        return found

    run.loaded = loaded  # type: ignore[attr-defined]  # a signature alone does not keep its variables
    return run


def _keras(path: Path) -> Run:
    import keras

    # Called directly, a Keras model runs operation by operation, at a fifth of the speed.
    model = keras.saving.load_model(path, compile=False)
    return lambda pixels: np.asarray(model.predict_on_batch(pixels))


def _tensorflow(path: Path) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    call = loaded.signatures["pixels"]

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = call(pixels=tf.constant(pixels))["probabilities"].numpy()
        return found

    run.loaded = loaded  # type: ignore[attr-defined]  # a signature alone does not keep its variables
    return run


def _litert(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    entering, leaving = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    shapes: list[tuple[int, ...]] = [()]

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if pixels.shape != shapes[0]:
            interpreter.resize_tensor_input(entering, pixels.shape)
            interpreter.allocate_tensors()
            shapes[0] = pixels.shape
        interpreter.set_tensor(entering, pixels)
        interpreter.invoke()
        found: NDArray[np.float32] = interpreter.get_tensor(leaving)
        return found

    return run


def _onnxruntime(path: Path) -> Run:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it notes a device in the user's home and calls its maker
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(["probabilities"], {"pixels": pixels})[0]
        return found

    return run


def _openvino(path: Path) -> Run:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would report over the network
    import openvino

    # Left to itself, OpenVINO computes in bfloat16 wherever the processor can.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: np.array(model(pixels)[0])


_OPEN: Final[dict[str, Callable[[Path], Run]]] = {
    "keras": _keras,
    "tensorflow": _tensorflow,
    "litert": _litert,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def main(model: str, work: str, out: str, repeated: str, *kinds: str) -> None:
    """Run one image after another through a model and time each call; then the first, so often, in one call."""
    socket.has_ipv6 = False  # else what TensorFlow imports opens a socket to find out
    found: dict[str, NDArray[Any]] = {}
    for kind in kinds:
        run: Any = opened_for_files(Path(model)) if kind == "files" else opened(Path(model))
        load = _file if kind == "files" else _pixels
        names = sorted((Path(work) / kind).iterdir())
        rows, seconds = [], []
        for name in names:
            image = load(name)
            started = time.perf_counter()
            rows.append(run(image)[0])
            seconds.append(time.perf_counter() - started)
        first = load(names[0])
        several: Any = first * int(repeated) if kind == "files" else np.repeat(first, int(repeated), axis=0)
        rows.extend(run(several))
        found |= {f"{kind}_probabilities": np.array(rows), f"{kind}_seconds": np.array(seconds)}
    if strangers := {name.partition(".")[0] for name in sys.modules} & {"pipeline", "stages"}:
        raise SystemExit(f"expected the runtime alone, found {strangers}")
    np.savez(out, **found)  # type: ignore[arg-type]  # none of the names is its option's


def _file(path: Path) -> Any:
    return [path.read_bytes()]


def _pixels(path: Path) -> Any:
    return np.load(path)[None]


if __name__ == "__main__":
    main(*sys.argv[1:])
