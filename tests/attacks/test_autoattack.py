"""AutoAttack against closed forms; its accounting, its resume, its compilations."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_victims import CLASSES, PIXELS, SHAPE, closest_boundary, curved, lengths, weights

from jaxdl.attacks.autoattack import ATTACKS, VERSIONS, autoattack, summary
from jaxdl.attacks.outcomes import TIMES
from jaxdl.core import Model
from jaxdl.train import interrupt

module = sys.modules[autoattack.__module__]
RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 0.7, (24, *SHAPE)).astype(np.float32)
W = weights(2)
LABELS = (X.reshape(24, -1) @ np.asarray(W)).argmax(-1)
CLEAN = LABELS.copy()
LABELS[:3] = (LABELS[:3] + 1) % CLASSES  # wrong from the start
# Chunks of one size, so that little is compiled.
CHEAP = {'steps': 20, 'queries': 60, 'batch': 1, 'log': lambda line: None}


def victim(forward):
  """A model whose parameters are what `forward(params, x)` multiplies by."""
  apply = lambda p, s, x, *, train=False, key=None: ((forward(p, x), {}), s)
  return Model(lambda key, x: ({}, {}), apply)


def flat(p, x):
  return x.reshape(len(x), -1) @ p['w']


LINEAR = victim(flat), {'w': W}, {}
BENT = victim(lambda p, x: curved()(x) * p['scale']), {'scale': jnp.float32(1.0)}, {}
BENT_LABELS = np.asarray(curved()(X).argmax(-1))


def check_accounting(e, x, labels, norm, eps, classify):
  values = list(e.accuracy.values())
  assert all(a >= b for a, b in zip(values, values[1:], strict=False))
  assert values[-1] == e.robust.mean()
  np.testing.assert_array_equal(e.robust, e.found_by == '')
  assert (lengths(norm, e.adversarial - x) <= eps * (1 + 1e-6) + 1e-6).all()
  assert e.adversarial.min() >= 0 and e.adversarial.max() <= 1
  same = (e.adversarial == x).all((1, 2, 3))
  np.testing.assert_array_equal(same, e.robust | (e.found_by == 'clean'))
  fooled = np.asarray(classify(e.adversarial).argmax(-1) != labels)
  np.testing.assert_array_equal(fooled, ~e.robust)


@pytest.mark.parametrize('norm, eps, attacks', [
  ('linf', 0.008, VERSIONS['standard']), ('l2', 0.1, ('apgd-t',)), ('l1', 0.6, ('fab-t',)),
])
def test_linear_classifier_has_a_closed_form(norm, eps, attacks):
  """An image is robust where each boundary is farther than eps; the box is out of reach."""
  e = autoattack(*LINEAR, X, LABELS, eps, norm, attacks=attacks, **CHEAP)
  far = closest_boundary(W, X, LABELS, norm).min(1)
  clear = np.abs(far - eps) > (0.15 if norm == 'l1' else 0.01) * eps
  right = (X.reshape(24, -1) @ np.asarray(W)).argmax(-1) == LABELS
  want = (far > eps) & right
  assert 0.2 < want.mean() < 0.8 and clear.mean() > 0.8
  np.testing.assert_array_equal(e.robust[clear], want[clear])
  check_accounting(e, X, LABELS, norm, eps, lambda x: x.reshape(len(x), -1) @ W)
  assert list(e.accuracy) == ['clean', *attacks]
  assert e.accuracy['clean'] == 0.875 and e.warnings == []


def test_eps_zero_leaves_the_clean_accuracy():
  e = autoattack(*LINEAR, X, LABELS, 0.0, **CHEAP)
  assert set(e.accuracy.values()) == {0.875} and set(e.found_by) == {'', 'clean'}
  np.testing.assert_array_equal(e.adversarial, X)


def test_accounting_of_a_bent_classifier():
  e = autoattack(*BENT, X, BENT_LABELS, 0.02, version='plus', **CHEAP)
  check_accounting(e, X, BENT_LABELS, 'linf', 0.02, curved())
  assert 0 < e.robust.mean() < 1
  assert list(e.accuracy) == ['clean', *ATTACKS]


def stopped_and_resumed(monkeypatch, run, patience):
  """Calls `run` again and again, each time stopped at a later safe point."""
  stops = 0
  left = patience

  def poll():
    nonlocal left
    left -= 1
    if left < 0:
      raise interrupt.Interrupted('SIGTERM')

  monkeypatch.setattr(interrupt, 'poll', poll)
  while True:
    try:
      return run(), stops
    except interrupt.Interrupted:
      stops += 1
      left = patience


def test_stopped_and_resumed_equals_straight(monkeypatch, tmp_path):
  run = lambda folder: autoattack(*LINEAR, X, LABELS, 0.008, workdir=folder, **CHEAP)
  straight = run(tmp_path / 'a')
  resumed, stops = stopped_and_resumed(monkeypatch, lambda: run(tmp_path / 'b'), 70)
  assert stops > 1
  for want, have in zip(straight, resumed, strict=True):
    np.testing.assert_array_equal(want, have) if isinstance(want, np.ndarray) else None
    assert isinstance(want, np.ndarray) or want == have
  chunks = lambda folder: {p.name: p.read_bytes() for p in folder.glob('*.npz')}
  assert len(chunks(tmp_path / 'a')) > 4
  assert chunks(tmp_path / 'a').keys() == chunks(tmp_path / 'b').keys()
  assert json.loads((tmp_path / 'b' / TIMES).read_text()).keys() == set(VERSIONS['standard'])


def test_what_is_done_is_not_computed_again_unless_it_is_damaged(monkeypatch, tmp_path):
  calls = []
  real = module._Victim.run

  def run(self, rows, work, key, targets):
    calls.append(work)
    return real(self, rows, work, key, targets)

  monkeypatch.setattr(module._Victim, 'run', run)
  attack = lambda: autoattack(*LINEAR, X, LABELS, 0.008, workdir=tmp_path, **CHEAP)
  first, many = attack(), len(calls)
  damaged = sorted(tmp_path.glob('apgd-t-*.npz'))[0]
  damaged.write_bytes(damaged.read_bytes()[:40])
  calls.clear()
  second = attack()
  looks = len(X) + (LABELS == CLEAN).sum()  # the clean logits and the gradients are not kept
  assert len(calls) == looks + 1 < many
  np.testing.assert_array_equal(first.adversarial, second.adversarial)
  with pytest.raises(ValueError, match='another eps'):
    autoattack(*LINEAR, X, LABELS, 0.009, workdir=tmp_path, **CHEAP)
  with pytest.raises(ValueError, match='another model'):
    other = (LINEAR[0], {'w': 2 * W}, {})
    autoattack(*other, X, LABELS, 0.008, workdir=tmp_path, **CHEAP)


def test_each_attack_is_compiled_once_for_each_size(monkeypatch):
  programs, real = {}, module._program

  def program(apply, work, layout):
    programs[work, layout] = real(apply, work, layout)
    return programs[work, layout]

  monkeypatch.setattr(module, '_program', program)
  options = CHEAP | {'batch': 8, 'attacks': ('apgd-ce', 'apgd-t')}
  count = lambda: sum(p._cache_size() for p in programs.values())
  by_work = lambda: {work: sum(p._cache_size() for (w, _), p in programs.items() if w is work)
                     for work, _ in programs}
  e = autoattack(*LINEAR, X, LABELS, 0.008, **options)
  assert set(e.found_by) == {'', 'clean', 'apgd-ce', 'apgd-t'} or e.accuracy['apgd-ce'] < 0.875
  assert len(by_work()) == 4  # the looks at logits and at gradients, and two attacks
  assert max(by_work().values()) <= 4
  before = count()
  again = autoattack(LINEAR[0], {'w': 2 * W}, {}, X, LABELS, 0.008, **options)
  assert again.accuracy['apgd-t'] == e.accuracy['apgd-t']  # the radius is what counts
  autoattack(*LINEAR, X, LABELS, 0.5, **options)
  assert count() <= before + 1 and max(by_work().values()) <= 4


def test_an_images_draws_do_not_depend_on_its_chunk():
  one = autoattack(*LINEAR, X, LABELS, 0.008, attacks=('apgd-ce', 'square'), **CHEAP)
  other = autoattack(
    *LINEAR, X, LABELS, 0.008, attacks=('apgd-ce', 'square'), **CHEAP | {'batch': 8}
  )
  np.testing.assert_array_equal(one.robust, other.robust)
  np.testing.assert_allclose(one.adversarial, other.adversarial, atol=1e-6)


def test_uint8_images_are_those_in_the_unit_range():
  raw = (X * 255).round().astype(np.uint8)
  run = lambda x: autoattack(*LINEAR, x, LABELS, 0.008, attacks=('apgd-ce',), **CHEAP)
  np.testing.assert_array_equal(
    run(raw).adversarial, run(raw.astype(np.float32) * np.float32(1 / 255)).adversarial
  )


def test_rand_sees_through_noise():
  """Weights as noisy as large: the mean of many draws still points the right way."""
  def apply(p, s, x, *, train=False, key=None):
    noise = jax.random.normal(key, p['w'].shape) / np.sqrt(PIXELS)
    return (x.reshape(len(x), -1) @ (p['w'] + 0.3 * noise), {}), s

  noisy = Model(lambda key, x: ({}, {}), apply)
  e = autoattack(noisy, {'w': 3 * W}, {}, X, LABELS, 0.03, version='rand', **CHEAP | {'steps': 8})
  assert list(e.accuracy) == ['clean', 'apgd-ce', 'apgd-dlr'] and not e.warnings
  assert e.accuracy['clean'] > 0.6 and e.accuracy['apgd-dlr'] < 0.3


def test_summary_is_plain():
  said = []
  e = autoattack(*LINEAR, X, LABELS, 0.008, attacks=('apgd-ce',), **CHEAP | {'log': said.append})
  out = summary(e, model='linear', dataset='noise', norm='linf', eps=0.008)
  assert json.loads(json.dumps(out)) == out
  assert out['unreliable'] is False
  assert out['clean_acc'] == 87.5 and out['autoattack_acc'] == 100 * e.robust.mean()
  assert any('robust accuracy after apgd-ce' in line for line in said)


@pytest.mark.parametrize('change, sentence', [
  ({'eps': -0.1}, 'eps must be'), ({'norm': 'linfty'}, "norm 'linfty'"),
  ({'version': 'standart'}, "Did you mean 'standard'"), ({'attacks': ['apgd']}, "'apgd'"),
  ({'batch': 0}, 'batch must be'), ({'images': X + 1}, r'must lie in \[0, 1\]'),
  ({'labels': LABELS + 9}, 'none of the 4 classes'), ({'labels': LABELS[1:]}, '23 labels'),
  ({'queries': 0}, 'queries must be'), ({'target_classes': 0}, 'target_classes must be'),
])
def test_bad_input_is_one_sentence(change, sentence):
  arguments = {'images': X, 'labels': LABELS, 'eps': 0.01, **CHEAP, **change}
  with pytest.raises(ValueError, match=sentence):
    autoattack(*LINEAR, **arguments)


@pytest.mark.parametrize('version', ['plus', 'rand'])
def test_two_classes_have_no_difference_of_logits_ratio(version, tmp_path):
  """Said before any attack has run."""
  two = victim(flat), {'w': W[:, :2]}, {}
  with pytest.raises(ValueError, match='apgd-dlr compares three logits, and this model has 2'):
    autoattack(*two, X, LABELS % 2, 0.1, version=version, workdir=tmp_path, **CHEAP)
  assert not list(tmp_path.glob('*.npz'))
