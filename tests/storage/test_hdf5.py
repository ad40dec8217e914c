"""HDF5 files are read, or refused by what is wrong with them."""

import subprocess
import sys
from pathlib import Path

import h5py

from pipeline.storage.hdf5 import open_to_read


def test_a_file_that_another_program_writes_is_busy_and_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with h5py.File(path, "w"):
        program = f"""if True:
            from pathlib import Path
            from pipeline.errors import BusyError
            from pipeline.storage.hdf5 import open_to_read
            try:
                open_to_read(Path({str(path)!r}), "features")
            except BusyError as error:
                print(error)
        """
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == f"{path}: another program has it open to write: wait for it, or close it there\n"
    open_to_read(path, "features").close()
