"""Objectives: (params, model_state, batch, key, frozen) -> (loss, Output)."""

from jaxdl.objectives.supervised import supervised

__all__ = ['supervised']
