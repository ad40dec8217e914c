"""The feature of each photo, computed once: its spec, the cache of rows, the workers that compute it, features.h5."""
