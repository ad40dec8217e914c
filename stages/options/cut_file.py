"""A cut is named, with its pooling, or read from a file of `headstart probe`; never both."""

from pipeline.errors import SettingError
from pipeline.features.settings import FeatureSettings
from stages.options.of_settings import given


def either_cut_or_file(settings: FeatureSettings) -> None:
    """Refuse a cut or a pooling beside the file that names both, even one that is the default."""
    for name in ("cut", "pooling") if settings.cut_file else ():
        if name in given():
            raise SettingError(f"expected either --cut-file or --{name}, received both")
