"""What went wrong, for the person in front of it."""


class Problem(Exception):
    """One sentence: what was expected, what was found, what to do."""
