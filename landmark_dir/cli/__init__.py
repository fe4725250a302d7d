"""The command line: translates options and errors, computes nothing."""
