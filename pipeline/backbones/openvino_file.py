"""The XML of an OpenVINO graph, read as data: whether it does no more than compute."""

import re
from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree

SETS: Final = re.compile(r"opset[1-9]\d?")  # OpenVINO's own; another is an extension, a library to load
CONTROL: Final = ("If", "Loop", "TensorIterator")


def faults(data: bytes, *, repeats: bool = True) -> Iterator[str]:
    """Yield whatever in the XML of a graph is more than OpenVINO's own operations.

    With `repeats`, these may hold a graph of their own, which they repeat or choose.
    """
    if b"<!DOCTYPE" in data:  # entities could expand without end
        yield "a DOCTYPE"
        return
    root = ElementTree.fromstring(data)  # noqa: S314  (see above)
    if root.tag != "net":  # OpenVINO goes by the content, and would read other formats under this name
        yield f"a document of <{root.tag}>"
    for layer in root.iter():
        if layer.tag.startswith("{"):  # OpenVINO knows no namespaces, and would read it as one of its own
            yield f"the element {layer.tag}"
        if layer.tag == "layer" and not SETS.fullmatch(layer.get("version", "")):
            yield f"the operation {layer.get('version')}.{layer.get('type')}"
        if layer.tag == "layer" and not repeats and layer.get("type") in CONTROL:
            yield f"the operation {layer.get('type')}, which repeats or chooses"
