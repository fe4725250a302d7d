"""Registration without against with landmarks: one pair, or a file of cases."""
