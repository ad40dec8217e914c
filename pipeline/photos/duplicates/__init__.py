"""Copies of one picture: perceptual hashes, and the pairs that are near each other."""
