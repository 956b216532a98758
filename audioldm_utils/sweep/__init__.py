"""Sweeps: methods or chapters over a grid of clips, checkpoints and parameters, on Dask."""
