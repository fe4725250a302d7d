"""The page of a run or a comparison: one file that needs no network."""
