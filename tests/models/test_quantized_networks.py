"""The option `quantization` of a network: which layers it reaches, and what it refuses."""

import jax
import jax.numpy as jnp
import pytest

from jaxdl.models import create

LQ = {'name': 'lq', 'weights': 2, 'activations': 2}


def shapes(net):
  return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


@pytest.mark.parametrize('name, first', [
  ('resnet8', 'stem_conv'), ('vgg11_bn', 'stage1_conv1'), ('densenet10_12', 'stem_conv'),
  ('wrn10_1', 'stem_conv'), ('preact_resnet18', 'stem_conv'), ('vgg_small', 'stage1_conv1'),
])  # fmt: skip
def test_all_convolutions_but_the_first_and_no_head(name, first):
  plain, quantised = shapes(create(name, 10)), shapes(create(name, 10, quantization=LQ))
  assert jax.tree.structure(plain['params']) == jax.tree.structure(quantised['params'])
  path = lambda p: jax.tree_util.keystr(p[:-1], simple=True, separator='/')
  kernels = {
    path(p) for p, w in jax.tree_util.tree_leaves_with_path(plain['params'])
    if p[-1].key == 'kernel' and w.ndim == 4
  }
  reached = {path(p) for p, _ in jax.tree_util.tree_leaves_with_path(quantised['lq'])}
  assert first in kernels and reached == kernels - {first}


def test_hidden_layers_but_the_first_and_no_head():
  plain, quantised = (create('mlp', 10, hidden=(6, 5, 4), quantization=q) for q in (None, LQ))
  assert jax.tree.structure(shapes(plain)['params']) == jax.tree.structure(
    shapes(quantised)['params']
  )
  assert set(shapes(quantised)['lq']) == {'hidden2', 'hidden3'}


def test_what_cannot_be_quantised_is_refused():
  with pytest.raises(ValueError, match="model 'mlp' stays in float.*at least two"):
    create('mlp', 10, hidden=(8,), quantization=LQ)
  with pytest.raises(ValueError, match='must be a mapping'):
    create('resnet8', 10, quantization='lq')
  with pytest.raises(ValueError, match='at least 1 and at most 8, got 9'):
    create('resnet8', 10, quantization={'name': 'lq', 'weights': 9})
  with pytest.raises(ValueError, match="'lqq'. Did you mean 'lq'"):
    create('resnet8', 10, quantization={'name': 'lqq'})
