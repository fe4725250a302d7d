"""What the benchmarks share: the data, and tables in Markdown."""

from training.dataset import data_folder
from training.tables import machine, markdown

__all__ = ["data_folder", "machine", "markdown"]
