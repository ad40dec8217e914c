"""These tests are for the environment that `make test-hub` makes; elsewhere they are not collected."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("keras_hub") else ["test_*.py"]
