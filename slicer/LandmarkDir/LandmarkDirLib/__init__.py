"""What the module LandmarkDir does, without Qt: it runs in 3D Slicer and in PyPI's `slicer-core`.

Nothing of the package `landmark_dir` is imported: it runs in a process and an environment of its
own, so that what it needs never meets what Slicer brings. Written for Python 3.9, which Slicer 5.8
has.
"""
