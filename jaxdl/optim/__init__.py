"""Optimizers as chains of optax links; some links ask for more gradients than the one at hand."""

from jaxdl.optim.builders import build, learning_rate
from jaxdl.optim.leaves import kernels_mask
from jaxdl.optim.params_ema import ema_params, params_ema, with_ema_params
from jaxdl.optim.schedules import schedule
from jaxdl.optim.sharpness_aware import perturbation, sharpness_aware
from jaxdl.optim.weight_noise import gaussian_noise, gaussian_weight_noise

__all__ = [
  'build',
  'ema_params',
  'gaussian_noise',
  'gaussian_weight_noise',
  'kernels_mask',
  'learning_rate',
  'params_ema',
  'perturbation',
  'schedule',
  'sharpness_aware',
  'with_ema_params',
]
