"""A drawn, CT-like follow-up pair whose true motion is known."""
