"""Simulated follow-up examinations in three dimensions."""
