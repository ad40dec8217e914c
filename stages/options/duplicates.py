"""The option that says what is a copy, for those commands that look for copies."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def hash_distance(function: Function) -> Function:
    """Give a command the option ``--hash-distance``, an integer."""
    return click.option(
        "--hash-distance",
        type=click.IntRange(0, 256),
        default=31,
        show_default=True,
        help="Largest difference between perceptual hashes of one picture, in bits of 256.",
    )(function)
