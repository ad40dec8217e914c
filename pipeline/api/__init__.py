"""What `headstart.py` is made of: the keywords of a call, what it returns, and how that is shown."""
