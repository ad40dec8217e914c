"""The row cache: shards of computed rows, written once and found again by spec, photo and view."""
