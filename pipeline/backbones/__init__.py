"""The pretrained bases: a table of them, their weights, how to cut one into a trunk, and the engines that run it."""
