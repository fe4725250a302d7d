"""Scans, packs of slices, and the pairs that are made from them."""
