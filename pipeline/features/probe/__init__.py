"""Find the layer to cut at: a quick head at every cut, what to recommend, and the file that keeps it."""
