"""The commands of the command line, one a file: its parser, and what it calls."""
