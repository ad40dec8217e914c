"""Metrics, intervals and statistical tests on arrays; no file and no image is read here."""
