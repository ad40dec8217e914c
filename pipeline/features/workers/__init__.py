"""Compute the rows that are missing: partitions, a worker for each, retries, and the executors that run them."""
