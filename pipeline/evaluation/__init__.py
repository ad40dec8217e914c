"""How good a model is: metrics on the test split, predictions, comparisons of several models and the verdict."""
