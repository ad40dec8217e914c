"""What the graph in an exported file may do: compute, and nothing else. Each file is checked before a runtime loads it.

A graph is a program. TensorFlow's operations read and write files, and a function may hide them in another one; ONNX
keeps tensors in other files; TFLite and OpenVINO take operations from outside; Keras builds any object that a
configuration names. The digests in ``export.json`` are no help: whoever sends a folder wrote them, too. So a file
passes by lists of what may be in it, and whatever is not on them is refused by its name.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from pipeline.backbones import onnx_file, openvino_file, weights_file
from pipeline.errors import ArtefactError, WeightsError
from pipeline.storage import strict_json
from pipeline.storage.strict_json import LARGEST

# Of TensorFlow: what networks, preprocessing, the resize, the decoding and heads are traced to. None of these opens a
# file or a socket, or calls Python.
TENSORFLOW: Final = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax Assert AvgPool BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd BroadcastTo
    Cast Ceil ClipByValue ConcatV2 Const Conv2D Cumsum DecodeAndCropJpeg DecodeImage DecodeJpeg DecodePng DecodeRaw
    DepthwiseConv2dNative DivNoNan Einsum Elu EnsureShape Equal Erf Erfc Exp ExpandDims ExtractJpegShape Fill Floor
    FloorDiv FloorMod FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If IsFinite
    LeakyRelu Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool Maximum Mean Min
    Minimum MirrorPad Mul Neg NoOp NotEqual OneHot Pack Pad PadV2 PartitionedCall Placeholder Pow PreventGradient
    Prod Range Rank ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResizeBilinear ReverseV2 Round Rsqrt Select
    SelectV2 Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus SpaceToBatchND Split SplitV Sqrt Square
    SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StatelessWhile StaticRegexFullMatch
    StaticRegexReplace StopGradient StridedSlice StringLength StringToNumber Sub Substr Sum Tanh TensorListConcatV2
    TensorListElementShape TensorListFromTensor TensorListGetItem TensorListLength TensorListReserve
    TensorListSetItem TensorListStack Tile TopKV2 Transpose Unpack VarHandleOp Where While ZerosLike
    """.split()  # noqa: SIM905  (a line each would be 150)
)
# What TensorFlow writes into each SavedModel to save and restore its variables. It stands in two functions that only
# TensorFlow's own programs call; nothing else in the graph may.
SAVING: Final = frozenset(
    (
        *("AssignVariableOp", "DisableCopyOnRead", "MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"),
        "StringJoin",
    )
)
SAVED_MODEL_FILES: Final = frozenset(
    ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
)
KERAS_MEMBERS: Final = frozenset(("metadata.json", "config.json", weights_file.ARCHIVE_MEMBER))
KERAS: Final[Mapping[str | None, frozenset[str]]] = {
    module: frozenset(names.split())
    for module, names in {
        None: "__ellipsis__ __keras_tensor__ __numpy__ __slice__ __tensor__",
        "keras": "DTypePolicy Sequential",
        "keras.initializers": """
            Constant GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Ones RandomNormal
            RandomUniform TruncatedNormal VarianceScaling Zeros
        """,
        "keras.layers": """
            Activation Add Average AveragePooling2D BatchNormalization Concatenate Conv2D Cropping2D Dense
            DepthwiseConv2D Dropout Flatten GaussianNoise GlobalAveragePooling2D GlobalMaxPooling2D InputLayer
            LayerNormalization LeakyReLU MaxPooling2D Multiply Normalization ReLU Rescaling Reshape SeparableConv2D
            Softmax ZeroPadding2D
        """,
        "keras.regularizers": "L1 L1L2 L2",
        "keras.src.applications.convnext": "LayerScale",
        "keras.src.applications.inception_resnet_v2": "CustomScaleLayer",
        "keras.src.models.functional": "Functional",
        "keras.src.ops.core": "Cast Shape",
        "keras.src.ops.numpy": """
            Absolute Add Clip Concatenate Cumsum Divide Equal ExpandDims Floor FloorDivide FullLike GetItem Greater
            GreaterEqual Less LessEqual LogicalAnd LogicalNot LogicalOr Matmul Maximum Mean Minimum Multiply Negative
            OnesLike Pad Reshape Round Sin Squeeze Stack Subtract Sum Transpose TrueDivide Where ZerosLike
        """,
    }.items()
}
_OUTSIDE: Final = ("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES", "CALL_ONCE")  # of TFLite


def require_harmless(path: Path, runtime: str) -> None:
    """Raise ArtefactError, which names what it is, if a file or a folder holds what does more than compute.

    `runtime`, which is to run it, is a name in `pipeline.export.runtimes.MODULES`, and installed.
    """
    _CHECKS[runtime](path)


def _refuse(path: Path, received: str) -> NoReturn:
    raise ArtefactError(f"{path}: expected a graph that only computes, received {received}; it was not loaded")


def _tensorflow(path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    for file in path.rglob("*"):
        if file.is_symlink() or (file.is_file() and file.relative_to(path).as_posix() not in SAVED_MODEL_FILES):
            _refuse(path, f"the file {file.relative_to(path)}")
    graphs = SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    # A graph without this is read by the rules of TensorFlow 1, which run operations while they load it.
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        _refuse(path, "several graphs, or one of TensorFlow 1")
    (graph,) = graphs
    outside = {node.name: node for node in graph.graph_def.node}
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    ends = (graph.saver_def.save_tensor_name, graph.saver_def.restore_op_name)
    savers = {end.partition(":")[0] for end in ends} & outside.keys()
    saving = {name for saver in savers for name in _called(outside.pop(saver))}
    nodes = [("", node) for node in outside.values()]
    nodes += [(name, node) for name, steps in functions.items() for node in steps]
    for where, node in nodes:
        if node.op not in (TENSORFLOW | SAVING if where in saving else TENSORFLOW):
            _refuse(path, f"the operation {node.op}{f' in the function {where}' if where else ''}")
        if strange := saving.intersection(_called(node)):
            _refuse(path, f"a call of {min(strange)}, which writes files, in {where or node.name}")
    objects = graph.object_graph_def
    if strange := saving & objects.concrete_functions.keys():
        _refuse(path, f"the function {min(strange)}, which writes files, as one to call")
    if any(node.HasField("asset") for node in objects.nodes) or graph.asset_file_def:
        _refuse(path, "other files to read")


def _called(node: Any) -> Iterator[str]:
    """Yield the names of the functions that a node of TensorFlow calls."""
    for value in node.attr.values():
        yield from (called.name for called in ([value.func] if value.HasField("func") else value.list.func))


def _keras(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if strange := sorted(set(names) - KERAS_MEMBERS) or len(names) > len(KERAS_MEMBERS):
            _refuse(path, f"the file {strange[0]}" if isinstance(strange, list) else "a file twice")
        if any(archive.getinfo(name).file_size > LARGEST for name in names if name.endswith(".json")):
            _refuse(path, f"a description of more than {LARGEST:,} bytes")
        config = strict_json.loads(archive.read("config.json"))
    for module, name in kinds(config):
        if name not in KERAS.get(module, ()):
            _refuse(path, f"an object of {f'{module}.' if module else ''}{name}")
    try:
        with weights_file.opened(path):
            pass  # looked through as it is opened
    except WeightsError as error:
        raise ArtefactError(f"{path}: {error}; it was not loaded") from error


def kinds(config: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the module and the class of each object that a configuration of Keras asks for, nested ones too."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config.get("module"), config["class_name"]
        config = config.values()
    if not isinstance(config, str) and hasattr(config, "__iter__"):
        for each in config:
            yield from kinds(each)


def _litert(path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    for place in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(place)
        name = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "CUSTOM")
        if name in _OUTSIDE or name.startswith("STABLEHLO_CUSTOM"):
            _refuse(path, f"the operation {name} {(code.CustomCode() or b'').decode(errors='replace')}".rstrip())
    # An older LiteRT knows no tensors in other files.
    if any(getattr(model, f"External{kind}Length", int)() for kind in ("BufferGroups", "Buffers")):
        _refuse(path, "tensors in other files")


def _onnxruntime(path: Path) -> None:
    import onnx

    for fault in onnx_file.faults(onnx.load(path, load_external_data=False)):
        _refuse(path, fault)


def _openvino(path: Path) -> None:
    for fault in openvino_file.faults(path.read_bytes()):
        _refuse(path, fault)


_CHECKS: Final[Mapping[str, Callable[[Path], None]]] = {
    "tensorflow": _tensorflow,
    "keras": _keras,
    "litert": _litert,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
