"""Options and types of parameters that several commands take."""
