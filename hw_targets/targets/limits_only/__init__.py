"""Chips of which limits are published, but nothing that could judge their integers: `fit` answers, nothing else.

A chip's file moves out of here once its family has a folder of its own.
"""
