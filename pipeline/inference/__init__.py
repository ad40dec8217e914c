"""From photos to labels: predictions, class activation maps, out-of-distribution scores and serving."""
