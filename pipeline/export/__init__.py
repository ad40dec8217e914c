"""A model as files that run without this project: one graph from image to probabilities, in six formats."""
