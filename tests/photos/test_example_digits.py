"""The default data: every digit of scikit-learn, pixel for pixel, in a folder named after it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.photos.example_digits import write
from stages.digits import digits as command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "digits"
    assert write(folder) == 1797
    return folder


def test_each_digit_lies_in_the_folder_of_its_class(folder: Path) -> None:
    written = Counter(path.parent.name for path in folder.rglob("*.png"))
    assert written == Counter(map(str, load_digits().target))


def test_the_pixels_are_those_of_scikit_learn_on_256_levels(folder: Path) -> None:
    digits = load_digits()
    for number in (0, 1, 1000, 1796):
        with Image.open(folder / str(digits.target[number]) / f"{number:04}.png") as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            np.testing.assert_array_equal(np.asarray(image), np.rint(digits.images[number] * 255 / 16))


def test_no_two_digits_share_their_bytes(folder: Path) -> None:
    assert len({path.read_bytes() for path in folder.rglob("*.png")}) == 1797


def test_writing_again_changes_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    result = CliRunner().invoke(command, [str(folder)])
    assert result.stdout == f"1,797 images of handwritten digits -> {folder}\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
