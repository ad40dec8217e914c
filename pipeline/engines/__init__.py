"""Engines run a trunk over batches of pixels: one call, ``uint8 batches -> features``, whatever runs it."""
