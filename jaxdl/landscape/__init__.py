"""The loss around a trained network: exact set means, weight noise, worst case, curvature, slices.

Everything takes `(model, params, model_state, images, labels, ...)` with a `jaxdl.core.Model` and
arrays, and compiles once for each model and set size.
"""

from jaxdl.landscape.curvature import Eigenvalues, lanczos, top_eigenvalues
from jaxdl.landscape.dataset import (
  evaluate_arrays,
  hessian_vector_product,
  loss_and_grad,
  mean_loss,
  mean_loss_and_grad,
  mean_metrics,
)
from jaxdl.landscape.perturbation import WorstCase, gaussian_accuracy, worst_case
from jaxdl.landscape.recalibration import recalibrate
from jaxdl.landscape.slices import filter_normalized_direction, loss_line, loss_surface

__all__ = [
  'Eigenvalues',
  'WorstCase',
  'evaluate_arrays',
  'filter_normalized_direction',
  'gaussian_accuracy',
  'hessian_vector_product',
  'lanczos',
  'loss_and_grad',
  'loss_line',
  'loss_surface',
  'mean_loss',
  'mean_loss_and_grad',
  'mean_metrics',
  'recalibrate',
  'top_eigenvalues',
  'worst_case',
]
