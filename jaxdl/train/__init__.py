"""The step, the loop, the stages, checkpoints and metrics."""
