"""Train the layers above a cut on, from cached activations or from pixels read anew."""
