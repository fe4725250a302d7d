"""A transform as numpy and SimpleITK see it: points, images, fields, b-spline fit, export."""
