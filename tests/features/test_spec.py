import pytest

from pipeline.errors import SpecError
from pipeline.features import spec

TRAINED = {
    "backbone": {"name": "vgg16", "alpha": 1.0},
    "decoder": {"name": "pillow", "version": "13.0.0", "jpeg": "3.1"},
    "dtype": "float16",
    "precision": "float32",
    "weights": {"sha256": "ab"},
    "cut": "block5_pool",
    "pooling": "avg",
    "size": 224,
    "resize": "squash",
    "preprocessing": "caffe",
}


def changed(field: str, value: object) -> dict[str, object]:
    group, _, name = field.partition(".")
    return {**TRAINED, group: {**TRAINED[group], name: value} if name else value}  # type: ignore[dict-item]


def test_the_order_of_keys_does_not_change_the_identity() -> None:
    assert spec.identity(TRAINED) == spec.identity(dict(reversed(TRAINED.items())))


def test_the_identity_is_the_sha256_of_the_canonical_text() -> None:
    assert spec.canonical({"b": 1, "a": {"é": [1.5, None]}}) == '{"a":{"é":[1.5,null]},"b":1}'
    assert spec.identity({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_value_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        spec.canonical({"a": float("nan")})


def test_differences_name_nested_fields_with_both_values() -> None:
    assert spec.differences(TRAINED, changed("decoder.version", "14")) == [("decoder.version", "13.0.0", "14")]
    assert spec.differences({"a": 1}, {"b": 2}) == [("a", 1, None), ("b", None, 2)]
    assert spec.differences(TRAINED, TRAINED) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weights.sha256", "cd"),
        ("cut", "block4_pool"),
        ("pooling", "max"),
        ("size", 150),
        ("resize", "crop"),
        ("preprocessing", "tf"),
        ("backbone.name", "vgg19"),
        ("decoder.name", "opencv"),
        ("a field of tomorrow", 1),
    ],
)
def test_features_that_mean_something_else_are_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(SpecError) as caught:
        spec.require_compatible(TRAINED, changed(field, value))
    assert f"{field}: expected " in str(caught.value)
    assert f"received {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("decoder.version", "14"), ("decoder.jpeg", "2"), ("precision", "bfloat16"), ("dtype", "float32")],
)
def test_features_that_differ_by_rounding_bring_a_warning_that_names_the_field(field: str, value: object) -> None:
    (warning,) = spec.require_compatible(TRAINED, changed(field, value))
    assert f"{field}: expected " in warning


def test_equal_specs_bring_no_warning() -> None:
    assert spec.require_compatible(TRAINED, dict(TRAINED)) == []


def test_a_base_is_random_by_its_seed_and_is_warned_of_until_it_was_trained():
    for weights, random, warned in (
        ({"sha256": "0"}, False, []),
        ({"seed": 0}, True, [spec.RANDOM]),
        ({"seed": 0, "finetuned": "1"}, True, []),
    ):
        described = {"weights": weights}
        assert (spec.is_random(described), spec.random_base(described)) == (random, warned)
