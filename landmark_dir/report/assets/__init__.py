"""Style, script and viewer of the page."""
