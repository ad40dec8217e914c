"""Light classifiers on cached features: fit, search, calibrate, save and load."""
