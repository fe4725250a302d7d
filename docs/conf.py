"""The documentation site: `make docs`. Pages are Markdown that can be read without it."""

import re
from importlib.metadata import version as installed

from sphinx.application import Sphinx

project = "landmark_dir"
author = "landmark_dir developers"
copyright = "landmark_dir developers, Apache-2.0"
release = version = installed("landmark_dir")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
nitpicky = False  # types of numpy and SimpleITK have no pages here

default_role = "code"  # docstrings name things in single backticks
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings state types with shape, unit and frame
autodoc_preserve_defaults = True

highlight_language = "none"  # blocks without a language are commands and what they print

html_theme = "furo"
html_title = f"landmark_dir {release}"
html_theme_options = {"navigation_with_keys": False}
html_copy_source = False
html_show_sourcelink = False

linkcheck_timeout = 20
linkcheck_anchors = False  # pages that scripts fill
linkcheck_ignore = [r"https://doi\.org/.*"]  # publishers answer programs with 403


def setup(app: Sphinx) -> None:
    """Help texts of commands are no markup: a star in them is a star."""
    app.connect("sphinx-click-process-options", _stars_are_stars)


def _stars_are_stars(app: Sphinx, context: object, lines: list[str]) -> None:
    lines[:] = [re.sub(r"(?<!\*)\*(?!\*)", r"\\*", line) for line in lines]
