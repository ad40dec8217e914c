"""The command line: one click command a file, each thin. Paths and options in, one library call, one line out."""
