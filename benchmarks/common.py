"""What the benchmarks share: the data, and tables in Markdown."""

from training.data.dataset import data_folder
from training.evaluation.tables import machine, markdown

__all__ = ["data_folder", "machine", "markdown"]
