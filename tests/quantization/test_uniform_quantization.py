"""Properties of the uniform quantiser, and float64 NumPy as its oracle."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdl.quantization import quantize, quantize_params

SHAPE = (3, 2, 4)
SIZES = st.floats(2**-20, 1e3, width=32)
VALUES = st.one_of(st.just(0.0), SIZES, SIZES.map(lambda x: -x))
TENSORS = hnp.arrays(np.float32, SHAPE, elements=VALUES)
BITS = st.integers(2, 8)
fast = settings(max_examples=60, deadline=None, derandomize=True)
run = jax.jit(quantize, static_argnames=('per_channel', 'clip'))


def numpy_on_grid(w, scale, bits):
  q = 2 ** (bits - 1) - 1
  return np.clip(np.round(w / np.where(scale > 0, scale, 1)), -q, q) * scale


def networks(seed=0):
  rng = np.random.default_rng(seed)
  normal = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
  return {
    'conv': {'kernel': normal(3, 3, 2, 8)},
    'norm': {'scale': normal(8), 'bias': normal(8)},
    'head': {'kernel': normal(8, 5), 'bias': normal(5)},
  }


@fast
@given(TENSORS, BITS, st.booleans())
def test_max_scaling_moves_no_weight_by_more_than_half_a_step(w, bits, per_channel):
  rounded, scale = run(w, bits, per_channel=per_channel, clip='max')
  reach = np.asarray(scale) / 2 * (1 + 1e-4)
  assert (np.abs(np.asarray(rounded, np.float64) - w) <= reach).all()
  assert np.asarray(scale).shape == ((1, 1, 4) if per_channel else (1, 1, 1))


@fast
@given(TENSORS, BITS, st.booleans(), st.sampled_from(['max', 'mse']))
def test_no_more_levels_than_the_bits_allow(w, bits, per_channel, clip):
  rounded, _ = run(w, bits, per_channel=per_channel, clip=clip)
  groups = np.asarray(rounded).reshape(-1, 4).T if per_channel else [np.asarray(rounded)]
  assert max(len(np.unique(group + 0.0)) for group in groups) <= 2**bits - 1


@fast
@given(TENSORS, BITS, st.booleans(), st.sampled_from(['max', 'mse']))
def test_quantising_twice_is_quantising_once(w, bits, per_channel, clip):
  once, _ = run(w, bits, per_channel=per_channel, clip=clip)
  twice, _ = run(once, bits, per_channel=per_channel, clip=clip)
  np.testing.assert_allclose(twice, once, rtol=1e-5, atol=0)


@fast
@given(TENSORS, BITS, st.booleans(), st.sampled_from(['max', 'mse']))
def test_odd_symmetry(w, bits, per_channel, clip):
  plus, _ = run(w, bits, per_channel=per_channel, clip=clip)
  minus, _ = run(-w, bits, per_channel=per_channel, clip=clip)
  np.testing.assert_array_equal(plus, -minus)


@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('bits', [2, 3, 4, 8])
def test_mse_clip_is_the_best_of_the_grid(bits, per_channel):
  w = np.random.default_rng(bits).standard_t(3, (40, 6)).astype(np.float32)
  axes = 0 if per_channel else (0, 1)
  widest = np.abs(w).max(axes, keepdims=True).astype(np.float64) / (2 ** (bits - 1) - 1)
  errors = np.stack([
    ((numpy_on_grid(w, f / 100 * widest, bits) - w) ** 2).sum(axes) for f in range(1, 101)
  ])
  rounded, _ = quantize(w, bits, per_channel, 'mse')
  error = ((np.asarray(rounded, np.float64) - w) ** 2).sum(axes)
  np.testing.assert_allclose(error, errors.min(0), rtol=1e-4)
  if bits <= 4:
    assert error.sum() < 0.99 * errors[-1].sum()


def test_ternary_gaussian_clip_is_near_the_known_optimum():
  # The best ternary quantiser {-s, 0, s} of a unit Gaussian with threshold s / 2 has s = 1.224.
  w = np.random.default_rng(0).normal(size=40000).astype(np.float32)
  _, scale = quantize(w, 2, clip='mse')
  assert abs(float(scale[0]) - 1.224) < 0.05


@pytest.mark.parametrize('clip', ['max', 'mse'])
@pytest.mark.parametrize('per_channel', [False, True])
def test_params_and_report(per_channel, clip):
  params = networks()
  rounded, report = quantize_params(params, 4, per_channel, clip)
  assert jax.tree.structure(rounded) == jax.tree.structure(params)
  squared, norm, largest, steps = 0.0, 0.0, 0.0, []
  for layer in ('conv', 'head'):
    w = params[layer]['kernel'].astype(np.float64)
    alone, scale = quantize(params[layer]['kernel'], 4, per_channel, clip)
    np.testing.assert_allclose(rounded[layer]['kernel'], alone, rtol=1e-6)
    assert np.abs(alone - w).max() > 0
    squared += ((alone - w) ** 2).sum()
    norm += (w**2).sum()
    largest = max(largest, np.abs(alone - w).max())
    steps.append(float(scale.max()) / 2)
  for name in ('scale', 'bias'):
    np.testing.assert_array_equal(rounded['norm'][name], params['norm'][name])
  np.testing.assert_array_equal(rounded['head']['bias'], params['head']['bias'])
  np.testing.assert_allclose(report['relative_error'], np.sqrt(squared / norm), rtol=1e-4)
  np.testing.assert_allclose(report['max_error'], largest, rtol=1e-4)
  np.testing.assert_allclose(report['half_step'], max(steps), rtol=1e-6)
  if clip == 'max':
    assert report['max_error'] <= report['half_step'] * (1 + 1e-4)


def test_more_bits_and_finer_scales_are_closer():
  error = lambda *args: float(quantize_params(networks(), *args)[1]['relative_error'])
  errors = [error(bits) for bits in (2, 3, 4, 5, 6, 8)]
  assert errors == sorted(errors, reverse=True)
  assert error(4, True) < error(4)
  assert error(3, False, 'mse') < error(3)


def test_bits_may_be_traced_and_do_not_retrace():
  traces = []

  @jax.jit
  def f(params, bits):
    traces.append(bits)
    return quantize_params(params, bits)[0]

  for bits in (2, 5, 8):
    expected = quantize_params(networks(), bits)[0]
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), f(networks(), bits), expected
    )
  assert len(traces) == 1


def test_a_channel_of_zeros_stays_zero():
  w = np.ones((5, 3), np.float32)
  w[:, 1] = 0
  for clip in ('max', 'mse'):
    rounded, scale = quantize(w, 4, True, clip)
    np.testing.assert_allclose(rounded, w, rtol=1e-6)
    assert scale[0, 1] == 0


def test_wrong_arguments_are_refused():
  with pytest.raises(ValueError, match='bits is 1'):
    quantize_params(networks(), 1)
  with pytest.raises(ValueError, match="clip is 'best'"):
    quantize_params(networks(), 4, clip='best')
  with pytest.raises(ValueError, match='No kernel'):
    quantize_params({'bias': np.zeros(3, np.float32)}, 4)
