"""Files on disk: written atomically, HDF5, locks and digests."""
