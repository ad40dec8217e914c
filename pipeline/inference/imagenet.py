"""ImageNet's 1,000 classes by the packaged base and its own classifier: what one can try before anything is trained.

The classifier is a head like any other, one affine map of the base's averaged features.
"""

from pathlib import Path
from typing import Final

import numpy as np

from pipeline.backbones import efficientnet_lite, table, weights
from pipeline.errors import WeightsError
from pipeline.features import resolve
from pipeline.features.settings import FeatureSettings
from pipeline.heads.logistic import LogisticHead
from pipeline.models.classifier import Classifier, HeadClassifier
from pipeline.models.settings import Runtime

NAME: Final = "imagenet"
TOP: Final = 5  # classes that are shown of a photo
BASE: Final = FeatureSettings(backbone="efficientnet_lite0", resize="crop", dtype="float32")  # the centre, as published
CLASSES_FILE: Final = Path(__file__).with_name("imagenet_classes.txt")


def is_meant(path: Path) -> bool:
    """Whether a path is the word ``imagenet``, and no file or folder of that name."""
    return path == Path(NAME) and not path.exists()


class ImageNetClassifier(HeadClassifier):
    """The packaged base with the classifier that it was trained with.

    Raises
    ------
    WeightsError
        The package that holds both is not installed.
    """

    def __init__(self, runtime: Runtime | None) -> None:
        Classifier.__init__(self, runtime)
        self.path = Path(NAME)
        self._spec = resolve.plan(BASE).spec
        backbone = table.find(BASE.backbone)
        path = weights.find_weights(backbone, weights.IMAGENET, size=backbone.size, alpha=1.0, seed=0).path
        if path is None:
            raise WeightsError(f"{NAME}: expected {efficientnet_lite.FILE}, received none")
        kernel, bias = efficientnet_lite.read_checkpoint(path)["predictions"]
        self._head = LogisticHead(C=1.0, l1_ratio=0.0, class_weight=None, max_iter=1, seed=0)
        plain = {"mean_": np.zeros(len(kernel)), "scale_": np.ones(len(kernel))}
        self._head.arrays_ = {"coef_": kernel.T.astype(float), "intercept_": bias.astype(float), **plain}
        self._head.history_ = []
        self.classes = CLASSES_FILE.read_text(encoding="utf-8").splitlines()
        self.threshold = None
