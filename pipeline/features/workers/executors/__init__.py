"""Executors run tasks: in this process, or wherever Dask has workers."""
