"""The library speaks Python, and the command line translates."""

import pickle

import pytest

from pipeline.errors import ArtefactError, InputError, SettingError
from stages.options.as_typed import in_options


@pytest.mark.parametrize(
    ("library", "command_line"),
    [
        ("`val_fraction`: expected 1", "--val-fraction: expected 1"),
        ("give `folds=5`", "give --folds 5"),
        ('train `head="knn"`', "train --head knn"),
        ("give `stratify=True` or `C`", "give --stratify or --C"),
        ("`calibrate=None`", "--calibrate none"),
        ("run `hs.prepare` again", "run `headstart prepare` again"),
        ("a file for `hs.prepare(exclude=...)`", "a file for `headstart prepare --exclude`"),
        ("`hs.extract(views=2, flip='both')`", "`headstart extract --views 2 --flip both`"),
        ("received 'a`b' and `git init`", "received 'a`b' and `git init`"),
    ],
)
def test_settings_become_options_and_steps_commands(library: str, command_line: str) -> None:
    assert in_options(library) == command_line


def test_an_error_carries_the_setting_what_was_expected_and_received_and_the_step_that_is_the_remedy() -> None:
    error = SettingError.of("val_fraction", "a number", None, "run `hs.prepare` again")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one) == "`val_fraction`: expected a number, received none: run `hs.prepare` again"
        assert (one.field, one.expected, one.received, one.step) == ("val_fraction", "a number", "none", "prepare")


def test_an_error_of_a_file_names_the_step_that_writes_it() -> None:
    error = ArtefactError("a.h5: expected rows, received none; run `hs.extract` again")
    assert (error.field, error.step) == (None, "extract")
    assert InputError("photos: expected a folder").step is None
