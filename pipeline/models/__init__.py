"""Trunk, tail and head as one network: joined, stored, run and fine-tuned."""
