"""What the stages left, as one page to look at: a file that needs no network and no other file."""
