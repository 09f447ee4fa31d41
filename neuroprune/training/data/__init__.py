"""Data sets: any class that satisfies `base.DataSet`, named by a recipe's `[data] factory`; here are ours."""

from neuroprune.training.data.base import DataSet, DatasetNotFound, Split

__all__ = ["DataSet", "DatasetNotFound", "Split"]
