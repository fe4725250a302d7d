"""From two volumes, or two slices, to corresponding points."""
