"""Engines run a trunk over batches of pixels: TensorFlow or OpenVINO."""
