"""From a folder of photos to a manifest, and from a photo's bytes to pixels.

`pipeline.features.settings` has their size, since the base decides it.
"""
