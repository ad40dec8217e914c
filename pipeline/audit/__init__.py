"""Is the data sound? Copies, leaks, contradictions, wrong labels, outliers and classes that look alike."""
