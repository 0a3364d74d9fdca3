"""What a study of lottery tickets found: its networks, their costs, and published numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxdl.sparsity import tickets
from jaxdl.sparsity.arms import AT_INIT
from jaxdl.viz.report import aggregate, spread

STABLE = 'Frankle et al. 2019 (1903.01611), figures 2 and 3, ResNet-20'
LATER = 'Frankle et al. 2020 (1912.05671) [memory]'
VGG19 = 'Frankle et al. 2019 (1903.01611), figures 2 and 3, VGG-19'
LENET = 'Frankle et al. 2019 (1903.01611), figure 2, LeNet-300-100'
# (network, trunk or training, arm) -> density or None, published test accuracy (%), source
PAPER = {
  ('resnet', 'standard', 'dense'): (None, 90.5, STABLE),
  ('resnet', 'low', 'dense'): (None, 89.1, STABLE),
  ('resnet', 'warmup', 'dense'): (None, 89.6, STABLE),
  ('resnet', 'init', 'ticket'): (0.167, 87.7, STABLE),
  ('resnet', 'init', 'random'): (0.167, 87.7, STABLE),
  ('resnet', 'low', 'ticket'): (0.167, 89.1, STABLE),
  ('resnet', 'low', 'random'): (0.167, 86.1, STABLE),
  ('resnet', 'warmup', 'ticket'): (0.167, 90.3, STABLE),
  ('resnet', 'warmup', 'random'): (0.167, 86.8, STABLE),
  ('vgg16_bn', 'standard', 'dense'): (None, 93.7, LATER),
  ('vgg16_bn', 'low', 'dense'): (None, 92.0, VGG19),
  ('vgg16_bn', 'warmup', 'dense'): (None, 92.3, VGG19),
  ('vgg16_bn', 'init', 'ticket'): (0.022, 90.0, VGG19),
  ('vgg16_bn', 'init', 'random'): (0.022, 90.2, VGG19),
  ('vgg16_bn', 'low', 'ticket'): (0.022, 91.0, VGG19),
  ('vgg16_bn', 'low', 'random'): (0.022, 88.0, VGG19),
  ('vgg16_bn', 'warmup', 'ticket'): (0.022, 92.4, VGG19),
  ('vgg16_bn', 'warmup', 'random'): (0.022, 90.3, VGG19),
  ('mlp', 'standard', 'dense'): (None, 98.0, LENET),
  ('mlp', 'layer', 'ticket'): (0.107, 98.3, LENET),
  ('mlp', 'layer', 'random'): (0.107, 97.5, LENET),
}
LI = 'Li et al. 2020 (2003.05733), VGG-16, PGD training of a ticket found by FGSM training'
# (training, arm) -> published test accuracy, PGD accuracy (%), of VGG-16
PAPER_PGD = {
  ('pgd_20', 'ticket'): (75.15, 44.49), ('pgd_40', 'ticket'): (76.28, 45.27),
  ('pgd_60', 'ticket'): (76.48, 45.73), ('pgd_80', 'ticket'): (77.60, 45.20),
  ('pgd_100', 'ticket'): (78.07, 44.53), ('pgd_100', 'dense'): (77.21, 44.78),
}  # fmt: skip
DATA = {'resnet': 'cifar10', 'vgg16_bn': 'cifar10', 'mlp': 'mnist'}


class Cell(NamedTuple):
  """What a stage of the study is.

  Attributes:
    trunk: the search it belongs to, or the training of a dense network.
    level: rounds of pruning.
    arm: 'dense', 'ticket', an arm, a criterion, or 'lines' (linear connectivity).
    seed: of the run.
    criterion: whether the arm is a criterion.
  """

  trunk: str
  level: int
  arm: str
  seed: int
  criterion: bool = False


class Found(NamedTuple):
  """The networks of a study, by (trunk, level, arm, criterion), and what they are compared with.

  Attributes:
    c: the configuration.
    results: key -> results of all seeds and draws.
    folders: key -> their folders.
  """

  c: Mapping
  results: Mapping[tuple, list]
  folders: Mapping[tuple, list]

  def of(self, trunk, level, arm, criterion=False):
    """The results of one arm; the dense networks of the trunk's training for 'dense'."""
    if arm == 'dense' or level == 0:
      trunk, level, arm = self.training(trunk), 0, 'dense'
    return self.results.get((trunk, level, arm, criterion), [])

  def training(self, trunk):
    return self.c.trunk[trunk].training if trunk in self.c.trunk else trunk

  def accuracy(self, *key):
    """Mean test accuracy (%), or None where there is no such network."""
    return mean_of(self.of(*key), lambda r: 100 * r['test']['accuracy'])

  def levels(self, trunk, arm):
    """The levels at which this arm was trained."""
    return sorted(n for t, n, a, criterion in self.results
                  if (t, a, criterion) == (trunk, arm, False))

  def density(self, trunk, level):
    return tickets.densities(self.c.trunk[trunk].rate, level)[-1]

  def cost(self, trunk, level, arm, criterion=False):
    """Updates to find and to train it, in trainings of a dense network of its own training."""
    own = mean_of(self.of(trunk, level, arm, criterion), updates_of)
    dense = mean_of(self.of(trunk, 0, 'dense'), updates_of)
    if arm == 'dense' or own is None:
      return own and own / dense
    searched = self.c.trunk[trunk].search or self.training(trunk)
    search = mean_of(self.results[searched, 0, 'dense', False], updates_of)
    rounds = lambda arm, n: sum(
      mean_of(self.of(trunk, i, arm), updates_of) or 0 for i in range(1, n + 1)
    )
    if criterion:
      found = 0 if arm in AT_INIT else search
    elif arm == 'oneshot':
      found = search
    else:  # a mask is made of the network of the level before
      found = search + rounds('finetune' if arm == 'finetune' else 'ticket', level - 1)
    return (found + own) / dense


def published(c, trunk, arm, density):
  """(number, source) where a paper has one for this kind of network at this density."""
  kind = c.train.model.name.rstrip('0123456789')
  at, value, source = PAPER.get((kind, trunk, arm), (None, None, None))
  if DATA.get(kind) != c.train.data.name or value is None:
    return ()
  return (value, source) if at is None or abs(density / at - 1) < 0.1 else ()


def published_pgd(c, trunk, arm):
  """((clean, source), (PGD, source)) of a network trained against PGD; empty where none is."""
  training = c.trunk[trunk].training if trunk in c.trunk else trunk
  if (c.train.model.name, c.train.data.name) != ('vgg16_bn', 'cifar10'):
    return (), ()
  return tuple((value, LI) for value in PAPER_PGD.get((training, arm), ())) or ((), ())


def accuracy_of(result):
  return result['test']['accuracy']


def updates_of(result):
  return result['updates']


def mean_of(results: Sequence, value):
  return float(np.mean([value(r) for r in results])) if results else None


def percent_of(results, value):
  return aggregate([100 * value(r) for r in results])


def spread_of(results, value):
  return spread(*percent_of(results, value))
