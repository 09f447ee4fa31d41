"""What training takes as data, and the kinds there are: one module each."""

from neuroprune.training.data.base import DataSet, DatasetNotFound, Split

__all__ = ["DataSet", "DatasetNotFound", "Split"]
