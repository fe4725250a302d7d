"""Training, evaluation and export of the networks; imports the package, never the reverse."""
