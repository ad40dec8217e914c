"""Settings: described by their fields, made of values by name, refused out of range."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.errors import SettingError
from pipeline.setting import Need, build, check, described, group, require_effect, setting


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = setting(3, "How deep.", least=1, most=9)


@dataclass(frozen=True, kw_only=True)
class Outer:
    kind: Literal["a", "b"] = setting("a", "Which.")
    inner: Inner = group(Inner)
    share: float | None = setting(None, "How much.", above=0.0, below=1.0, unset="all")
    folds: int = setting(0, "How many.", least=0, never=1)
    weight: Literal["balanced"] | None = setting(None, "Whose.", choices=("none", "balanced"))
    place: Path = setting(lambda: Path("here"), "Where.")
    told: bool = setting(False, "Whether.")


def test_settings_of_a_group_stand_in_its_place() -> None:
    assert list(described(Outer)) == ["kind", "depth", "share", "folds", "weight", "place", "told"]
    assert described(Outer)["kind"].choices == ("a", "b")
    assert described(Outer)["share"].optional
    assert described(Outer)["share"].type is float


def test_settings_are_made_of_values_by_name_and_the_rest_is_the_default() -> None:
    assert build(Outer, {"depth": 5, "kind": "b", "other": 1, "place": None}) == Outer(kind="b", inner=Inner(depth=5))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "c"}, "`kind`: expected one of a, b, received 'c'"),
        ({"depth": 10}, "`depth`: expected a whole number of at least 1 and of at most 9, received 10"),
        ({"depth": 2.0}, "`depth`: expected a whole number of at least 1 and of at most 9, received 2.0"),
        ({"depth": True}, "`depth`: expected a whole number"),
        ({"share": 1.0}, "`share`: expected a number above 0 and below 1, received 1.0"),
        ({"share": float("nan")}, "`share`: expected a number above 0 and below 1, received nan"),
        ({"folds": 1}, "`folds`: expected a whole number of at least 0 and not 1, received 1"),
        ({"weight": "odd"}, "`weight`: expected one of none, balanced, received 'odd'"),
        ({"told": 1}, "`told`: expected True or False, received 1"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(value: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        check(build(Outer, value))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("value", [{}, {"share": 0.5}, {"share": None}, {"weight": "balanced"}, {"folds": 2}])
def test_what_is_in_range_is_taken(value: dict[str, Any]) -> None:
    check(build(Outer, value))


@dataclass(frozen=True, kw_only=True)
class Copies:
    flip: str = setting("none", "How mirrored.")


@dataclass(frozen=True, kw_only=True)
class Needy:
    epochs: int = setting(0, "Passes.")
    rate: float = setting(0.1, "How fast.", needs=(Need("epochs"),))
    views: int = setting(1, "Copies.")
    copies: Copies = group(Copies, needs=(Need("views", least=2),))
    format: tuple[str, ...] = setting(("onnx",), "Which.")
    quantize: bool = setting(False, "Whether.", needs=(Need("format", ("tflite", "keras")),))
    file: Path | None = setting(None, "Where the cut is.")
    cut: str = setting("top", "Where.", needs=(Need("file", (None,)),))
    images: Path | None = setting(None, "Of what.", needs=(Need("search"), Need("file")))
    search: bool = setting(False, "Whether.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 0.5}, "`rate`: expected with `epochs` of 1 or more, received `epochs=0`"),
        ({"rate": 0.1}, "`rate`: expected with `epochs` of 1 or more, received `epochs=0`"),
        ({"rate": 0.5, "epochs": 0}, "`rate`: expected with `epochs` of 1 or more, received `epochs=0`"),
        ({"flip": "both", "views": 1}, "`flip`: expected with `views` of 2 or more, received `views=1`"),
        (
            {"quantize": True},
            "`quantize`: expected with `format='tflite'` or `format='keras'`, received `format='onnx'`",
        ),
        ({"file": Path("cut.json"), "cut": "top"}, "`cut`: expected with no `file`, received `file='cut.json'`"),
        ({"images": Path("a")}, "`images`: expected with `search=True` or `file`, received none"),
    ],
)
def test_what_is_given_and_can_have_no_effect_is_refused_with_what_it_needs(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError) as caught:
        require_effect(build(Needy, values), values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rate": 0.5, "epochs": 1},
        {"rate": 0.1, "epochs": 0},  # as params.yaml has it: a default, beside its switch
        {"flip": "both", "views": 2},
        {"quantize": True, "format": ("onnx", "tflite")},
        {"cut": "image"},
        {"images": Path("a"), "file": Path("b")},
    ],
)
def test_what_has_an_effect_and_defaults_beside_their_switch_are_taken(values: dict[str, Any]) -> None:
    require_effect(build(Needy, values), values)
