"""Small networks as ONNX files, with random weights: maps, and tokens behind a class token and a register."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SCALE, OFFSET = (0.01, 0.02, 0.03), (-1.0, 0.5, 0.0)
TOKENS = 4 + 2


def write(
    path: Path,
    nodes: list[Any],
    arrays: dict[str, NDArray[Any]],
    *,
    shape: tuple[Any, ...] = ("n", 3, 32, 32),
    outputs: tuple[str, ...] = ("y",),
    kind: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a graph from ``x`` to ``outputs``."""
    entering = helper.make_tensor_value_info("x", kind, shape)
    leaving = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    initial = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [entering], leaving, initializer=initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def maps(path: Path, *, channels_last: bool = False, seed: int = 0, **more: Any) -> Path:
    """Two convolutions (``r1`` has 8 x 16 x 16, ``r2`` 6 x 8 x 8), their means as ``y``."""
    random = np.random.default_rng(seed)
    arrays = {
        "w1": random.normal(size=(8, 3, 3, 3)).astype(np.float32) / 5,
        "w2": random.normal(size=(6, 8, 3, 3)).astype(np.float32) / 8,
    }
    first = []
    if channels_last:
        first = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
        more = {"shape": ("n", 32, 32, 3), **more}
    nodes = [
        *first,
        helper.make_node("Conv", ["t" if channels_last else "x", "w1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    return write(path, nodes, arrays, **more)


def tokens(path: Path, *, before: int = 2, **more: Any) -> Path:
    """Patches of 16 px: 2 x 2 tokens of 5 numbers behind `before` others (``t``); times a matrix (``y``)."""
    random = np.random.default_rng(1)
    arrays = {
        "w": random.normal(size=(5, 3, 16, 16)).astype(np.float32) / 30,
        "to_tokens": np.array([0, 5, 4], np.int64),
        "first": random.normal(size=(1, max(before, 1), 5)).astype(np.float32),
        "one": np.array([1], np.int64),
        "rest": np.array([max(before, 1), 5], np.int64),
        "zero": np.array([0], np.int64),
        "m": random.normal(size=(5, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[16, 16]),
        helper.make_node("Reshape", ["c", "to_tokens"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["patches"], perm=[0, 2, 1]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["count"]),
        helper.make_node("Concat", ["count", "rest"], ["wide"], axis=0),
        helper.make_node("Expand", ["first", "wide"], ["others"]),
        helper.make_node("Concat", ["others", "patches"] if before else ["patches"], ["t"], axis=1),
        helper.make_node("MatMul", ["t", "m"], ["y"]),
    ]
    return write(path, nodes if before else nodes[:3] + nodes[7:], arrays, **more)


def transformer(path: Path, *, blocks: int = 5, norm: bool = True, **more: Any) -> Path:
    """Blocks of attention and a rectified layer on those of `tokens`: ``b0``, ``b1``, …; a norm; the first is ``y``."""
    tokens(path, **more)
    model = onnx.load(path)
    random = np.random.default_rng(2)
    nodes, arrays = list(model.graph.node)[:-1], [one for one in model.graph.initializer if one.name != "m"]
    entering = "t0"
    nodes[-1].output[0] = entering

    def add(kind: str, *inputs: str, output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def matrix(name: str, *shape: int) -> str:
        arrays.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
        return name

    for place in range(blocks):
        q, k, v, p, m = (f"{name}{place}" for name in "qkvpm")
        first = add("LayerNormalization", entering, matrix(f"s{q}", 5), output=f"n{q}")
        add("MatMul", first, matrix(f"w{q}", 5, 15), output=f"all{place}")
        parts = [f"{name}_of_head{place}" for name in "qkv"]
        nodes.append(
            helper.make_node("Split", [add("Unsqueeze", f"all{place}", "one", output=f"u{place}")], parts, axis=3)
        )
        add("Transpose", parts[1], output=k, perm=[0, 1, 3, 2])
        add("Softmax", add("MatMul", parts[0], k, output=f"s{place}"), output=f"a{place}", axis=-1)
        add("Squeeze", add("MatMul", f"a{place}", parts[2], output=f"h{place}"), "one", output=v)
        mixed = add("Add", entering, v, output=p)
        second = add("LayerNormalization", mixed, matrix(f"s{m}", 5), output=f"n{m}")
        wide = add("Relu", add("MatMul", second, matrix(f"w{m}", 5, 7), output=m), output=f"r{place}")
        entering = add(
            "Add", mixed, add("MatMul", wide, matrix(f"w{wide}", 7, 5), output=f"o{place}"), output=f"b{place}"
        )
    if norm:
        entering = add("LayerNormalization", entering, matrix("scale", 5), matrix("shift", 5), output="t")
    arrays.append(numpy_helper.from_array(np.array(0, np.int64), "first_token"))
    add("Gather", entering, "first_token", output="y", axis=1)
    return write(path, nodes, {one.name: numpy_helper.to_array(one) for one in arrays})


def run(path: Path, pixels: NDArray[np.uint8], name: str, *, channels_last: bool = False, bgr: bool = False) -> Any:
    """Return a tensor as ONNX Runtime computes it of scaled pixels."""
    import onnxruntime

    model = onnx.load(path)
    if name not in [output.name for output in model.graph.output]:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    image = pixels * np.array(SCALE, np.float32) + np.array(OFFSET, np.float32)
    image = image[..., ::-1] if bgr else image
    image = image if channels_last else image.transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run([name], {"x": np.ascontiguousarray(image)})[0]
