"""Headstart: a frozen base runs once over the images, its features are kept, light heads train on them in seconds."""

from pipeline.storage.cache_folder import keep_libraries_quiet

keep_libraries_quiet()
