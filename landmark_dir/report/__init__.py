"""The page of a run, a comparison or a study: one file that needs no network."""
