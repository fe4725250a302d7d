"""Where findings of one scan are in the other, and how sure that is."""
