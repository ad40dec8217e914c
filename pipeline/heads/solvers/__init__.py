"""The optimisers of heads: the logistic objective, batched L-BFGS and the training loop of dense layers."""
