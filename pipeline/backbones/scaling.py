"""How pixels enter a network, in plain numbers, where no function of the network's own does it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, cast, get_args

from pipeline.errors import InputError, SettingError

Order = Literal["rgb", "bgr"]
ORDERS: Final = get_args(Order)
FIELDS: Final = ("scale", "offset", "channels")
# (pixel / 255 - mean) / deviation, with PyTorch's means and deviations of ImageNet.
IMAGENET: Final = (
    "ImageNet networks of PyTorch mostly take `input_scale` 0.01712475,0.01750700,0.01742919 and `input_offset` "
    "-2.11790393,-2.03571429,-1.80444444"
)


@dataclass(frozen=True)
class Scaling:
    """Pixels of RGB in 0…255, times `scale`, plus `offset`, then in the order of `channels`.

    Attributes
    ----------
    scale, offset : tuple of float
        One for all channels, or one each, red first.
    channels : {"rgb", "bgr"}
        The order in which the network takes them.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    channels: Order = "rgb"

    @classmethod
    def of(cls, scale: float | Sequence[float], offset: float | Sequence[float], channels: str | None = None) -> Self:
        """Check numbers and return them; SettingError names the one that is none, or not one or three."""
        found: dict[str, tuple[float, ...]] = {}
        for name, given in (("input_scale", scale), ("input_offset", offset)):
            numbers = tuple(map(float, given if isinstance(given, Sequence) else (given,)))
            if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
                raise SettingError.of(name, "one number or three, of red, green and blue", given)
            found[name] = numbers if len(set(numbers)) > 1 else numbers[:1]
        if channels not in (None, *ORDERS):
            raise SettingError.of("channels", " or ".join(ORDERS), channels)
        return cls(found["input_scale"], found["input_offset"], cast(Order, channels or "rgb"))

    @classmethod
    def chosen(
        cls, scale: Sequence[float], offset: Sequence[float], channels: str | None, own: "Scaling | None", why: str
    ) -> Self:
        """Put what a user gave in the place of what a network says of itself.

        Parameters
        ----------
        scale, offset, channels
            Empty or None if not given; channels are then those of `own`, else ``rgb``.
        own : Scaling or None
            What the network says.
        why : str
            Why a scale and an offset are needed without `own`.

        Raises
        ------
        InputError
            One of the two is missing, or a SettingError as for `of`.
        """
        for name, given in (("input_scale", scale), ("input_offset", offset)):
            if not given and not own:
                raise InputError.of(name, f"a number or three, since {why}", None, IMAGENET)
        return cls.of(
            scale or (own.scale if own else ()),
            offset or (own.offset if own else ()),
            channels or (own.channels if own else None),
        )

    @classmethod
    def of_spec(cls, described: Any) -> Self | None:
        """Return what a spec says; None where it names a function."""
        return None if isinstance(described, str) else cls.of(*(described[name] for name in FIELDS))

    @classmethod
    def is_spec(cls, described: Any) -> bool:
        """Whether this may stand in a spec: the name of a function, or what `spec` gives."""
        try:
            return isinstance(described, str) or (set(described) == set(FIELDS) and bool(cls.of_spec(described)))
        except (TypeError, ValueError, SettingError):
            return False

    @property
    def spec(self) -> dict[str, Any]:
        """What a spec says of it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
