"""Sweeps: every point of a grid of options, in one folder that can be resumed."""

from ltjax.sweeps.grid import Grid, read_grid
from ltjax.sweeps.plan import Block, plan
from ltjax.sweeps.run import Outcome, open_sweep, run_sweep

__all__ = ["Block", "Grid", "Outcome", "open_sweep", "plan", "read_grid", "run_sweep"]
