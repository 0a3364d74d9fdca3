"""Objectives: (params, model_state, batch, key, frozen) -> (loss, Output)."""

from jaxdl.objectives.adversarial import adversarial, attacked, free, trades, trades_attack
from jaxdl.objectives.byol import byol
from jaxdl.objectives.distilled import distilled
from jaxdl.objectives.ranked import ranked
from jaxdl.objectives.rotation import rotation, rotation_auxiliary
from jaxdl.objectives.self_distilled import self_distilled
from jaxdl.objectives.simclr import simclr
from jaxdl.objectives.simsiam import simsiam
from jaxdl.objectives.supervised import supervised

__all__ = [
  'adversarial', 'attacked', 'byol', 'distilled', 'free', 'ranked', 'rotation',
  'rotation_auxiliary', 'self_distilled', 'simclr', 'simsiam', 'supervised', 'trades',
  'trades_attack',
]
