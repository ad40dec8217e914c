"""Calibrated probabilities: temperature scaling, and decision thresholds for a target precision or recall."""
