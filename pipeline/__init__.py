"""Headstart: a frozen base runs once over the images, its features are kept, light heads train on them in seconds."""
