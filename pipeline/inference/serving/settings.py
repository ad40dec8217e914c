"""What a user can ask of `serve`; the defaults stand here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.backbones.settings import Arithmetic, EngineName, engine_setting
from pipeline.features.settings import cache_setting
from pipeline.inference.settings import features_setting, manifest_setting
from pipeline.models.settings import Runtime, precision_setting, weights_setting
from pipeline.photos.remote import Root
from pipeline.setting import Need, setting

COMPARED: Final = (Need("features"),)


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where to listen, what photos are compared with, what a request may cost, and how the network is run."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 is every address of this machine.")
    port: int = setting(8501, "Port to listen on; 0 is any that is free.", least=0, most=65535)
    name: str | None = setting(None, "Name of the model in addresses: /v1/models/NAME.", unset="that of its folder")
    features: Path | None = features_setting("Features of the training photos, to compare photos with.")
    manifest: Path | None = manifest_setting()
    images: Root | None = setting(
        None, "Where the training photos are, a folder or an address, to show them.", needs=COMPARED
    )
    neighbours: int | None = setting(
        None,
        "Familiarity measures the distance to the training photo of this rank; 1 is the nearest.",
        least=1,
        unset="a thirtieth of the training photos, from 1 to 10",
        needs=COMPARED,
    )
    batch_size: int = setting(8, "Most images per batch.", least=1)
    batch_wait: float = setting(
        0.0,
        "Seconds that a batch which is not full waits for more.",
        least=0.0,
        most=1.0,
        needs=(Need("batch_size", least=2),),
    )
    max_bytes: int = setting(2**24, "Most bytes in the body of a request.", least=1)
    max_pixels: int = setting(50_000_000, "Most pixels of an image.", least=1)
    max_images: int = setting(128, "Most images of a request to :predict; other requests have one.", least=1)
    at_once: int = setting(128, "Most requests at a time; further ones are told to come again.", least=1)
    timeout: float = setting(30.0, "Seconds for a request to arrive and be answered.", above=0.0)
    weights: str | None = weights_setting()
    engine: EngineName = engine_setting()
    precision: Arithmetic | None = precision_setting()
    cache: Path = cache_setting()

    @property
    def runtime(self) -> Runtime:
        """How the network is run."""
        return Runtime(self.weights, self.engine, self.precision, self.batch_size, self.cache)
