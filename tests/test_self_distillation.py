"""The arms of the study of self-distillation against the published code, written out in PyTorch."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.distillation import own_teacher

ROOT = pathlib.Path(__file__).parent.parent / 'experiments'


def load(path):
  spec = importlib.util.spec_from_file_location(f'study_{path.parent.name}_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


STUDY = load(ROOT / 'self_distillation.py')
CONFIG = load(ROOT / 'configs' / 'self_distillation.py').get_config
RNG = np.random.default_rng(0)
B, K = 6, 100  # the weights of the config are those of the published code on 100 classes
STUDENT, TEACHER = (3 * RNG.standard_normal((B, K)).astype(np.float32) for _ in range(2))
BATCH = {'image': jnp.zeros((B, 1)), 'label': jnp.asarray(RNG.integers(0, K, B)),
         'index': jnp.arange(B)}


def apply(params, model_state, x, *, train, key=None):
  return (params, {}), model_state


def loss(arm):
  c = CONFIG().arm[arm]
  objective = STUDY.METHODS[c.method](apply, apply, **c.options.to_dict())
  frozen = {'teacher': (jnp.asarray(TEACHER), {})}
  run = jax.jit(jax.value_and_grad(lambda z: objective(z, {}, BATCH, None, frozen)[0]))
  return run(jnp.asarray(STUDENT))


def published(arm, torch):
  """my_loss_function.py with the parameters that its README and its json files give."""
  f = torch.nn.functional
  z = torch.tensor(STUDENT, dtype=torch.float64, requires_grad=True)
  told, labels = torch.tensor(TEACHER).double(), torch.tensor(np.asarray(BATCH['label'])).long()
  divergence, hard = torch.nn.KLDivLoss(), f.cross_entropy(z, labels)
  if arm == 'tf_kd_self':
    alpha, t, multiplier = 0.95, 6.0, 50.0
    soft = divergence(f.log_softmax(z / t, 1), f.softmax(told / t, 1)) * t * t * multiplier
  else:
    alpha, t, multiplier = 0.1, 20.0, 100.0
    virtual = torch.full((B, K), 0.01 / (K - 1), dtype=torch.float64)
    virtual[range(B), labels] = 0.99
    soft = divergence(f.log_softmax(z, 1), f.softmax(virtual / t, 1)) * multiplier
  total = (1 - alpha) * hard + alpha * soft
  total.backward()
  return float(total.detach()), z.grad.numpy()


@pytest.mark.filterwarnings('ignore:reduction')
@pytest.mark.parametrize('arm', ['tf_kd_self', 'tf_kd_reg'])
def test_the_weights_are_those_of_the_published_code_on_cifar100(arm):
  want, gradient = published(arm, pytest.importorskip('torch'))
  have, have_gradient = loss(arm)
  np.testing.assert_allclose(have, want, rtol=1e-5)
  np.testing.assert_allclose(have_gradient, gradient, atol=1e-6)


def test_a_shuffled_teacher_is_as_sure_of_the_label_and_of_nothing_else():
  frozen = {'teacher': (jnp.asarray(TEACHER), {})}

  @jax.jit
  def soft(told):
    """Per example, of students that say what the teacher says."""
    objectives = [STUDY.from_network(apply, apply, shuffled=s) for s in (False, True)]
    return [f(told, {}, BATCH, None, frozen)[1].metrics['loss/soft'] for f in objectives]

  plain, shuffled = soft(jnp.asarray(TEACHER))
  np.testing.assert_allclose(plain, 0, atol=1e-5)
  assert np.all(np.asarray(shuffled) > 1e-3)


@pytest.mark.parametrize(
  ('arm', 'label', 'other'),
  [('baseline', 1, 0), ('label_smoothing', 0.91, 0.01), ('tf_kd_reg', 0.1045, 0.0995)],
)
def test_soft_targets_that_need_no_network(arm, label, other):
  method = CONFIG().arm[arm].to_dict()
  soft = STUDY.soft_targets(np.zeros((3, 10)), np.array([0, 4, 9]), **method)
  want = np.full((3, 10), other)
  want[range(3), [0, 4, 9]] = label
  np.testing.assert_allclose(soft, want, atol=5e-5)


def test_soft_targets_of_a_network_are_softened():
  soft = STUDY.soft_targets(
    np.log([[8.0, 1.0, 1.0]]), np.array([0]), 'network', {'temperature': 3.0}, 'baseline'
  )
  np.testing.assert_allclose(soft, [[0.5, 0.25, 0.25]])


def test_the_best_epoch_is_chosen_on_the_split_it_says():
  log = {'test/accuracy': (np.arange(3), np.array([0.2, 0.5, 0.4])),
         'validation/accuracy': (np.arange(3), np.array([0.1, 0.3, 0.6]))}
  assert own_teacher.at_best({'log': log}, 'test') == pytest.approx(50)
  assert own_teacher.at_best({'log': log}, 'validation') == pytest.approx(40)


def test_a_claim_that_is_missed_is_said_as_one():
  run = lambda accuracy, ece: {
    'train': {'accuracy': 0.75}, 'test': {'accuracy': accuracy}, 'ece': ece,
    'arrays': {'correct': [np.arange(50) < 50 * accuracy]},
  }
  c = CONFIG()
  c.arms = ('baseline', 'tf_kd_self', 'tf_kd_reg')
  runs = {
    'baseline': [run(0.5, 0.1)], 'tf_kd_self': [run(0.6, 0.2)], 'tf_kd_reg': [run(0.4, 0.05)]
  }
  gap, *said = own_teacher.claims(c, runs)
  assert '25.00 points' in gap
  # Five answers become right and none wrong: two-sided 2 / 2^5.
  assert 'McNemar p = 0.062, n = 1' in said[0]
  found = {line.split(':')[0]: '**seen**' in line for line in said}
  assert found == {
    'A teacher that is the same network helps': True,
    'A teacher written by hand helps': False,
    'tf_kd_self is better calibrated than the baseline': False,
    'tf_kd_reg is better calibrated than the baseline': True,
  }


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'arms': ('tf_kd_self',)}, ['tf_kd_self learns from', "'baseline'", 'before it']),
    ({'arms': ('tf_kd_self', 'baseline')}, ['before it']),
    ({'arm.tf_kd_reg.teacher': 'baseline'}, ["method 'virtual'", 'no other']),
    ({'arm.tf_kd_reg.options.correct': 1.0}, ['correct', 'below 1']),
    ({'arm.byot.options.alpha': 1.5}, ['alpha', 'at most 1']),
    ({'arm.byot.method': 'section'}, ["'section'", "mean 'sections'?"]),
    ({'thresholds': ()}, ['thresholds']),
    ({'shrink': 0}, ['shrink', 'at least 1']),
  ],
)
def test_an_arm_that_cannot_be_is_refused(change, words):
  c = CONFIG('cpu')
  c.update_from_flattened_dict(change)
  with pytest.raises(ValueError) as error:
    STUDY.stages(c)
  assert all(word in str(error.value) for word in words)
