"""Bits counted, handed out, packed and unpacked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxdl.core import bind
from jaxdl.models import create
from jaxdl.quantization import allocation, packing, tree
from jaxdl.quantization.bits import network_bits
from jaxdl.quantization.lq import codebook, quantize
from jaxdl.quantization.survey import entropy, fit_errors, ratios, survey

X = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
SPARSE = {'lam': 0.0}


def network(key=0, **quantization):
  """(module, model, params, state) of a small network with bases that are not the first ones."""
  module = create('resnet8', 3, width=0.25, quantization=quantization)
  model = bind(module)
  params, state = jax.jit(model.init)(jax.random.key(key), X)
  rng = np.random.default_rng(key)
  if 'lq' in state:
    moved = jax.tree.map(lambda v: v * rng.uniform(0.5, 1.5, v.shape).astype('f'), state['lq'])
    state = {**state, 'lq': moved}
  return module, model, params, state


@pytest.mark.parametrize('quantization', [
  {'weights': 1}, {'weights': 3, 'activations': 2}, {'name': 'uniform', 'weights': 2},
])
def test_packed_weights_reproduce_the_logits(quantization, tmp_path):
  _, model, params, state = network(**quantization)
  want = jax.jit(model.apply)(params, state, X)[0][0]
  size = packing.save(tmp_path / 'packed.npz', params, state)
  assert size == (tmp_path / 'packed.npz').stat().st_size
  plain = network(**{**quantization, 'weights': 32})[1]
  unpacked, rest = packing.load(tmp_path / 'packed.npz')
  have = jax.jit(plain.apply)(unpacked, rest, X)[0][0]
  np.testing.assert_array_equal(have, want)
  assert not np.array_equal(want, jax.jit(plain.apply)(params, rest, X)[0][0])


@pytest.mark.parametrize('most', [3, 5])
def test_pruned_weights_and_saved_bits_survive_packing(most):
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(3, 3, 4, 6)).astype(np.float32) * (rng.random((3, 3, 4, 6)) < 0.5)
  basis = rng.uniform(0.1, 1, (6, most)).astype(np.float32)
  bits = np.array([0, 1, 2, most, most, 1])
  alive = np.arange(most) < bits[:, None]
  layer = tree.Layer(kernel.astype(np.float32), basis * alive, alive)
  np.testing.assert_array_equal(layer.bits, bits)
  packed = packing.pack(layer)
  want = np.where(kernel == 0, 0, quantize(kernel, codebook(jnp.asarray(basis * alive), True)))
  np.testing.assert_array_equal(packing.unpack(packed), want)
  assert packed.planes.size == -(-bits.sum() * 36 // 8)  # 36 weights in a channel


def test_a_network_without_bases_is_not_packed(tmp_path):
  params = {'head': {'kernel': np.ones((2, 3), np.float32)}}
  with pytest.raises(ValueError, match="trained with the quantizer 'lq' or 'uniform'"):
    packing.save(tmp_path / 'x.npz', params, {})


def test_bits_and_size_of_a_network():
  _, _, params, state = network(weights=2, sparsity=SPARSE)
  layers = tree.layers(params, state)
  assert list(layers) == tree.names(state) and len(layers) == 6
  count = network_bits(params, state, layers, 2)
  quantized = {x.name: x for x in count.layers if x.quantized}
  assert set(quantized) == set(layers) and count.average() == 2
  total = sum(x.weights for x in count.layers)
  inside = sum(layer.kernel.size for layer in layers.values())
  assert count.average(everything=True) == pytest.approx(
    (2 * inside + 32 * (total - inside)) / total
  )
  bases = sum(layer.basis.size for layer in layers.values())
  every = sum(x.size for x in jax.tree.leaves((params, state['batch_stats'])))
  assert count.float_size == 4 * every
  assert count.size == 4 * (every - inside) + inside * 2 / 8 + 4 * bases
  assert network_bits(params, state, layers, 2, uniform=True).size < count.size


def test_blind_allocations_keep_the_average():
  module, model, params, state = network(weights=3, sparsity=SPARSE)
  rng = np.random.default_rng(0)
  alive = jax.tree_util.tree_map_with_path(
    lambda path, v: (rng.random(v.shape) < 0.6).astype('f') if 'alive' in str(path[-1]) else v,
    state['lq'],
  )
  layers = tree.layers(params, {**state, 'lq': alive})
  average = lambda bits: sum(layers[n].kernel.size * b.mean() for n, b in bits.items()) / sum(
    layer.kernel.size for layer in layers.values()
  )
  learned = {n: layer.bits for n, layer in layers.items()}
  shuffled, even = allocation.shuffled(layers, 1), allocation.even(layers, 1)
  assert average(shuffled) == pytest.approx(average(learned))
  assert average(even) == pytest.approx(average(learned), abs=0.1)
  for name, bits in shuffled.items():
    np.testing.assert_array_equal(np.sort(bits), np.sort(learned[name]))
  assert max(b.mean() for b in even.values()) - min(b.mean() for b in even.values()) < 0.3
  new = allocation.with_bits(state, layers, shuffled, step=7)
  steps = [v for path, v in flatten_dict(new['lq']).items() if path[-1] == 'step']
  assert len(steps) == len(layers) and set(map(float, steps)) == {7}
  for name, layer in tree.layers(params, new).items():
    np.testing.assert_array_equal(layer.bits, shuffled[name])
  same = lambda a, b: a.shape == b.shape and a.dtype == b.dtype
  assert jax.tree.all(jax.tree.map(same, new, state))


def test_bits_handed_out_stay_whatever_the_threshold():
  module, model, params, state = network(weights=3, sparsity={'lam': 9.0, 'freeze': 5})
  layers = tree.layers(params, state)
  bits = {n: 1 + np.arange(len(layer.bits)) % 3 for n, layer in layers.items()}
  for step, kept in ((5, True), (0, False)):
    new = allocation.with_bits(state, layers, bits, step)
    _, after = jax.jit(functools.partial(model.apply, train=True))(params, new, X)
    for name, layer in tree.layers(params, after).items():
      np.testing.assert_array_equal(layer.bits, bits[name] if kept else 0 * bits[name])


def test_survey_says_what_a_layer_does():
  module, _, params, state = network(weights=2, activations=2)
  names = tree.names(state)
  seen = survey(module, params, state, X, names, (1, 2))
  assert list(seen) == names
  for entry in seen.values():
    assert 0 < entry['entropy'] <= 2 and 0 <= entry['input_entropy'] <= 2
    assert entry['fits']['2'][0] < entry['fits']['1'][0] < 1
    assert entry['fits']['1'][0] == pytest.approx(entry['fits']['1'][1], rel=1e-4)
    assert entry['error'] > 0 and all(r >= 1 for r in entry['ratios'][0])


def test_numbers_of_a_survey_by_hand():
  assert entropy([1, 1, 2, 2]) == pytest.approx(1) and entropy([3, 3]) == 0
  assert ratios(np.array([[0.5, -1.5], [0.0, 2.0]])) == [[3.0]]
  assert ratios(np.array([[0.5, -1.5, 1.0], [0.0, 2.0, 4.0]])) == [[2.0], [1.5, 2.0]]
  assert ratios(np.array([[0.5], [0.2]])) == []
  assert fit_errors(np.zeros((3, 3, 2, 4), np.float32), 2) == (0, 0)
  rng = np.random.default_rng(0)
  heavy = rng.standard_t(3, (3, 3, 32, 4)).astype(np.float32)  # tails make equal steps worse
  learned, uniform = fit_errors(heavy, 3)
  assert learned < 0.97 * uniform
