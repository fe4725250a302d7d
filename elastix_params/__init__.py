"""elastix parameter files; the origin of every value is in `README.md` beside them."""
