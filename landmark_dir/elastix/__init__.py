"""The registration engines, their parameter maps and their transform files."""
