"""The feature of each photo, computed once: its spec, the cache of rows, the workers that compute it, features.h5.

`settings` says which base sees the photos, and at which size. A killed run resumes from the rows that it cached.
"""
