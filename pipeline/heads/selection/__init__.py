"""Choose a head's parameters: grid search, cross-validation, and the learning curve by number of photos."""
