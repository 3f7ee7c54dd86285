"""The commands that use a trained network; `ltjax.cli` has the others."""
