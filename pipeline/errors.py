"""Every error the library raises on purpose.

::

    HeadstartError
    ├── InputError          something the user gave is not what was expected: a folder, an option, a CSV
    │   ├── SettingError    a setting is out of its range, or does not go with another; nothing was done
    │   ├── CutError        the layer is no place where the network can be cut
    │   └── WeightsError    the weights are not there, or are not those of this network
    ├── ImageError          one image cannot be used; the message is its reason in the quarantine
    ├── ArtefactError       a file that the pipeline wrote is missing, damaged or of another kind
    │   └── SpecError       features and head were made under different specs
    ├── BusyError           another process is computing the same rows
    ├── WorkersError        the processes that compute, or their scheduler, are lost
    └── StorageError        the disk fails, is full or cannot be written: the run stops

A message is one line. It names the file or the option, then what was expected, then what was received.
"""


class HeadstartError(Exception):
    """The root of the tree; the command line prints its message and exits with status 1."""


class InputError(HeadstartError):
    """Something the user gave is not what was expected."""


class SettingError(InputError):
    """A setting is out of its range, or does not go with another one; told before anything was done."""


class CutError(InputError):
    """The named layer does not exist, or the network cannot be cut there."""


class WeightsError(InputError):
    """Pretrained weights are not on this machine, or do not fit the network they are meant for."""


class ImageError(HeadstartError):
    """One image cannot be used; the message is the reason, without the path."""


class ArtefactError(HeadstartError):
    """A file written by the pipeline is missing, damaged or of another kind."""


class SpecError(ArtefactError):
    """Features and head were made under different specs; the message names the field."""


class BusyError(HeadstartError):
    """Another process holds what this one needs; the message says who."""


class WorkersError(HeadstartError):
    """The processes that compute are lost, or nobody can reach them; what they stored is kept."""


class StorageError(HeadstartError):
    """The disk fails, is full, or cannot be written."""
