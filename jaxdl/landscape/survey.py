"""One trained network with its weights disturbed: noise, the worst case, rounding, slices."""

from collections.abc import Mapping

import jax
import numpy as np
import optax

from jaxdl.landscape.curvature import top_eigenvalues
from jaxdl.landscape.dataset import evaluate_arrays
from jaxdl.landscape.perturbation import gaussian_accuracy, worst_case
from jaxdl.landscape.slices import filter_normalized_direction, loss_line, loss_surface
from jaxdl.optim.leaves import kernels_mask
from jaxdl.options import check_number, check_numbers
from jaxdl.quantization import quantize_params
from jaxdl.train.interrupt import polled

NOISE = {  # curve -> options of gaussian_accuracy
  'relative': {'relative': True, 'mask': kernels_mask},
  'relative_all': {'relative': True},
  'relative_recalibrated': {'relative': True, 'mask': kernels_mask},
  'absolute': {'mask': kernels_mask},
}
ROUNDING = {  # curve -> options of quantize_params
  'tensor': {},
  'channel': {'per_channel': True},
  'tensor_mse': {'clip': 'mse'},
  'channel_mse': {'per_channel': True, 'clip': 'mse'},
}


def check_survey(options: Mapping) -> None:
  """Raises ValueError where `survey` and `loss_slices` cannot work with these options."""
  for key in ('relative', 'absolute', 'l2', 'linf'):
    check_numbers(f'analysis.{key}', options[key], 0)
  check_numbers('analysis.bits', options['bits'], 2, 16, whole=True)
  for key in ('test', 'train', 'calibration', 'draws', 'attack_steps', 'eigenvalues'):
    check_number(f'analysis.{key}', options[key], 1, whole=True)
  check_number('analysis.lanczos', options['lanczos'], options['eigenvalues'], whole=True)
  for key in ('line', 'surface'):
    check_number(f'analysis.{key}', options[key], 2, whole=True)
  check_number('analysis.span', options['span'], above=0)


def survey(model, params, model_state, test, train, calibration, options: Mapping, key) -> dict:
  """Accuracy on `test` under disturbed weights, and the curvature of the loss on `train`.

  Networks surveyed with one key see the same noise (up to scale), so that they are compared in
  pairs.

  Args:
    model: a `jaxdl.core.Model`.
    params: its parameters.
    model_state: its state.
    test: (images uint8 [N, H, W, C], labels int [N]).
    train: the same, what the worst case and the Hessian are computed on.
    calibration: training images [M, H, W, C] that recompute the batch statistics under noise.
    options: `relative`, `absolute` (sigmas), `l2`, `linf` (radii), `bits`: lists; `draws`,
      `attack_steps`, `eigenvalues`, `lanczos` (iterations): numbers.
    key: typed key.

  Returns:
    Plain numbers and lists: `weight_norm` (||w||_2), `clean` (accuracy in [0, 1]), `gaussian` curve
    -> accuracies over its sigmas, `adversarial` norm -> `sharpness`, `loss` (on `train`) and
    `accuracy` over its radii, `rounding` curve -> `accuracy` and `half_step` over the bits,
    `eigenvalues` (largest first) and `eigenvalue_residual` (of the first).
  """
  evaluate = evaluate_arrays(model)
  accuracy = lambda p: float(evaluate(p, model_state, *test)['accuracy'])
  return {
    'weight_norm': float(optax.tree.norm(params)),
    'clean': accuracy(params),
    'gaussian': _gaussian(model, params, model_state, test, calibration, options, key),
    'adversarial': _adversarial(model, params, model_state, train, accuracy, options, key),
    'rounding': _rounding(params, accuracy, options['bits']),
    **_curvature(model, params, model_state, train, options, key),
  }


def _gaussian(model, params, model_state, test, calibration, options, key):
  out = {}
  for name, kind in NOISE.items():
    if name == 'relative_recalibrated':
      kind = kind | {'calibration_images': calibration}
    sigmas = options['relative' if kind.get('relative') else 'absolute']
    accuracy = lambda sigma, kind=kind: gaussian_accuracy(
      model, params, model_state, *test, [sigma], key, draws=options['draws'], **kind
    )['accuracy']
    out[name] = [float(accuracy(sigma)[0]) for sigma in polled(sigmas)]
  return out


def _adversarial(model, params, model_state, train, accuracy, options, key):
  out = {}
  for norm in ('l2', 'linf'):
    out[norm] = {'sharpness': [], 'loss': [], 'accuracy': []}
    for rho in polled(options[norm]):
      w = worst_case(
        model, params, model_state, *train, rho, key, norm=norm, steps=options['attack_steps']
      )
      found = {'sharpness': w.sharpness, 'loss': w.loss, 'accuracy': accuracy(w.params)}
      for measure, value in found.items():
        out[norm][measure].append(float(value))
  return out


def _rounding(params, accuracy, bits):
  out = {}
  for name, kind in ROUNDING.items():
    cells = [quantize_params(params, b, **kind) for b in bits]
    out[name] = {
      'accuracy': [accuracy(rounded) for rounded, _ in polled(cells)],
      'half_step': [float(report['half_step']) for _, report in cells],
    }
  return out


def _curvature(model, params, model_state, train, options, key):
  top = top_eigenvalues(
    model, params, model_state, *train, key=key,
    k=options['eigenvalues'], iterations=options['lanczos'],
  )
  return {
    'eigenvalues': np.asarray(top.values).tolist(),
    'eigenvalue_residual': float(top.residuals[0]),
  }


def loss_slices(model, params, model_state, train, options: Mapping, key) -> dict:
  """Loss along one and two filter-normalised random directions (Li et al. 2018, 1712.09913).

  Args:
    model: as in `survey`, and so are the others.
    options: `span` (the slices reach from -span to span), `line` and `surface` (points a side).

  Returns:
    `{'line': {'x': [P], 'loss': [P]}, 'surface': {'x': [S], 'loss': [S, S]}}` as lists.
  """
  first, second = (filter_normalized_direction(jax.random.fold_in(key, i), params) for i in (1, 2))
  line = np.linspace(-options['span'], options['span'], options['line'])
  side = np.linspace(-options['span'], options['span'], options['surface'])
  where = model, params, model_state, *train
  on_line = loss_line(*where, first, line)['loss']
  on_surface = loss_surface(*where, (first, second), side, side)['loss']
  return {
    'line': {'x': line.tolist(), 'loss': np.asarray(on_line).tolist()},
    'surface': {'x': side.tolist(), 'loss': np.asarray(on_surface).tolist()},
  }
