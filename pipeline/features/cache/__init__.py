"""The row cache: shards of computed rows, written once and found again by spec, photo and view.

A killed run resumes here: `shard_writer` kept every full shard, and the next run computes only rows that are missing.
"""
