"""Executors run tasks: in this process, in processes of this machine, or wherever Dask has workers."""
