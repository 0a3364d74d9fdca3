"""Lottery tickets: does a dense network hold a sparse one that trains as well on its own?

Papers: Frankle and Carbin 2019 (arXiv 1803.03635, iterative magnitude pruning, IMP), Frankle et al.
2019 and 2020 (arXiv 1903.01611 and 1912.05671, rewinding to step k and linear mode connectivity),
Zhou et al. 2019 (arXiv 1905.01067, other mask criteria), Li et al. 2020 (arXiv 2003.05733, tickets
under PGD training). Claim: train, prune 20 % of the weights by magnitude, put the rest back to what
it was at step k, again and again; the ticket found trains to the dense network's accuracy at
densities where the same mask over other initial weights, or another mask over the same, does not.

  python experiments/lottery_ticket.py                                          # ResNet-20
  CONFIG=experiments/configs/lottery_ticket.py
  python experiments/lottery_ticket.py --config=$CONFIG:cpu

Variants
  (none)  ResNet-20, whole CIFAR-10, 30,000 steps, 3 seeds, densities down to 5.5 %; a GPU, days
          on one, and every stage resumes. Expected (Frankle et al. 2019): dense 90.5 %; at 16.7 %
          density a ticket from step 0 no better than a random mask (87.7 %) at a rate of .1, as
          good as the dense network at .01 or with warm-up, and at .1 when rewound to step 500.
  vgg     the same with VGG-16, 160 epochs, step 1,000, down to 2.2 %, and PGD training of 20 to
          100 epochs.
  lenet   LeNet-300-100 on MNIST, the first paper's experiment, 2 seeds, in 2,017 of its 50,000
          steps; 2 cores, 48 minutes with much other work. Expected (at full length): dense 98.0 %,
          ticket 98.3 % and random mask 97.5 % at 10.7 % density.
  cpu     real CIFAR-10 at 16 x 16 pixels on 2 cores: ResNet-8 of half the width, 2,000 images,
          640 steps, 60 % pruned in a round instead of 20; 20 minutes a seed with much other work.
          Small: read the orderings, not the accuracies; the dense network is not at its end, so
          tickets exceed it, and those from step 0 their reinitialisation.
  smoke   half a minute, embedded digits.
"""

from ml_collections import ConfigDict

EPS = 8 / 255


def trunk(k=0, levels=1, at=(), arms=(), training='standard', search='', scope='global', rate=0.2,
          rates=None):
  """One search for tickets.

  k: step to rewind to. levels: rounds, each of which prunes `rate` of what is left; rates: layer ->
  factor of its rate, with the scope 'layer'. at: levels at which the arms are trained as well.
  training: how tickets are trained, of `c.training`; search: how the dense network that is pruned
  is, where that is another one.
  """
  return {'k': k, 'levels': levels, 'at': at, 'arms': arms, 'training': training, 'search': search,
          'scope': scope, 'rate': rate, 'rates': rates}


def pgd(steps, alpha):
  return {'name': 'pgd', 'eps': EPS, 'steps': steps, 'alpha': alpha}


def adversarial(adversary, lr, **schedule):
  """A training of Li et al.: their schedule, 5,000 training images held out."""
  return {'data': {'validation': 5_000}, 'adversary': adversary,
          'optimizer': {'lr': lr, 'schedule': {'milestones': (0.5, 0.75), **schedule}}}


# A ticket found at a small rate is trained at a large one after a warm-up from the small one. The
# paper does not say how long it is: here a twentieth of the training.
WARM = {'warmup': 0.05, 'start': 0.01}
ACTIONS = (
  'reinit_same_sign', 'reshuffle', 'reshuffle_same_sign', 'constant', 'constant_random_sign',
  'frozen', 'frozen_zero_if_shrunk', 'frozen_zero_if_grown', 'frozen_zero_random', 'zero_if_shrunk',
)


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0, 1, 2)
  c.reinits = 3  # draws of the arm 'reinit'
  c.ignore = ()  # layers that are never pruned
  c.finetune = 0.25  # length of a round of the arm 'finetune', of a training
  c.train = ConfigDict({
    'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'validation': 0, 'test': 0},
    'model': {'name': 'resnet20', 'dtype': 'float32'},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'adversary': None,
    'epochs': 76.8, 'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4,
      'schedule': {'name': 'steps', 'warmup': 0, 'milestones': (2 / 3, 5 / 6)},
    },
    'log': 200, 'evaluate': 1000, 'checkpoint': 5000,
  })
  # What each training changes in `c.train`.
  c.training = ConfigDict({
    'standard': {},
    'low': {'optimizer': {'lr': 0.01}},
    'warmup': {'optimizer': {'lr': 0.03, 'schedule': {'warmup': 20_000}}},
    'fgsm_low': adversarial({'name': 'fgsm_rs', 'eps': EPS, 'alpha': 10 / 255}, 0.01),
    'pgd': adversarial(pgd(10, 2 / 255), 0.1, **WARM),
  })
  at = (3, 5, 7, 8, 10, 13)  # 51, 33, 21, 16.8, 10.7 and 5.5 %
  c.trunk = ConfigDict({
    'rewind': trunk(500, 13, at, ('reinit', 'random', 'finetune', 'oneshot')),
    'init': trunk(0, 13, at, ('reinit', 'random')),
    'layer': trunk(500, 13, scope='layer', rates={'head': 0.5}),
    'low': trunk(0, 8, (8,), ('reinit', 'random'), 'low'),
    'warmup': trunk(0, 8, (8,), ('reinit', 'random'), 'warmup'),
    'adversarial': trunk(0, 1, (1,), ('reinit', 'random'), 'pgd', 'fgsm_low', rate=0.8),
  })
  c.trunks = ('rewind', 'init', 'layer', 'low', 'warmup', 'adversarial')
  c.criteria = ConfigDict({
    'trunk': 'rewind',  # its dense network, its step and its densities
    'at': (5, 8, 13),
    'scope': 'layer',
    'seeds': 3,  # how many of the seeds
    'names': (
      'large_final', 'small_final', 'large_init', 'small_init', 'large_init_large_final',
      'small_init_small_final', 'magnitude_increase', 'movement', 'large_final_same_sign',
      'large_final_diff_sign', 'magnitude_increase_same_sign', 'magnitude_increase_diff_sign',
      'random', 'snip', 'grad', 'grasp', 'synflow', 'taylor',
    ),
    'per_class': 10,  # training images of each class that saliencies see
  })
  c.actions = ConfigDict({  # what the weights of a ticket start from, see jaxdl.sparsity.report
    'trunk': 'rewind', 'at': (5, 8, 13), 'names': ACTIONS,
    'seeds': 3,
  })
  c.connectivity = ConfigDict({
    'points': (('rewind', 0), ('rewind', 8), ('init', 0), ('init', 8)),  # trunk, level
    'on_line': 11, 'images': 10_000, 'calibration': 500,
  })
  c.attack = ConfigDict({'images': 10_000, 'steps': 20, 'alpha': 2 / 255})
  c.curves = (0, 3, 8, 13)  # levels whose training is shown
  if variant == 'vgg':
    c.train.model.name, c.train.epochs = 'vgg16_bn', 160.0
    c.train.optimizer.schedule.milestones = (0.5, 0.75)
    c.ignore = ('head',)
    for name in ('rewind', 'init', 'layer'):
      c.trunk[name].update({'levels': 17, 'at': (3, 8, 13, 17) * (name != 'layer')})
    c.trunk.rewind.k = c.trunk.layer.k = 1000
    c.trunk.layer.rates = None
    for name in ('low', 'warmup'):
      c.trunk[name].update({'levels': 17, 'at': (17,)})
    c.training.warmup.optimizer.lr = 0.1
    c.criteria.at, c.criteria.seeds = (8, 13, 17), 1
    c.actions.at, c.actions.seeds = (13,), 1
    for epochs in (20, 40, 60, 80, 100):
      c.training[f'pgd_{epochs}'] = {**c.training.pgd.to_dict(), 'epochs': float(epochs)}
      c.trunk[f'adversarial_{epochs}'] = trunk(0, 1, (1,), ('reinit',), f'pgd_{epochs}',
                                               'fgsm_low', rate=0.8)
    c.training.fgsm_low.epochs = 100.0
    c.trunks = (*c.trunks[:-1], *(f'adversarial_{e}' for e in (20, 40, 60, 80, 100)))
    c.connectivity.points = (('rewind', 0), ('rewind', 13), ('init', 0), ('init', 13))
    c.curves = (0, 3, 8, 13, 17)
  elif variant == 'lenet':
    _lenet(c)
  elif variant == 'cpu':
    _cpu(c)
  elif variant == 'smoke':
    _smoke(c)
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'vgg', 'lenet', 'cpu' or 'smoke'.")
  return c


def _lenet(c):
  c.seeds, c.reinits = (0, 1), 1
  c.train.data.update({'name': 'mnist', 'validation': 5_000})
  c.train.model = {'name': 'mlp', 'hidden': (300, 100), 'dtype': 'float32'}
  c.train.augment = None
  c.train.epochs, c.train.batch_size = 2.2, 60  # 2,017 steps; the paper has 50,000
  c.train.optimizer = {'name': 'adam', 'lr': 1.2e-3, 'schedule': {'name': 'constant'}}
  c.train.log, c.train.evaluate, c.train.checkpoint = 100, 250, 1000
  c.training = ConfigDict({'standard': {}})
  c.trunk = ConfigDict({
    'layer': trunk(0, 10, (3, 6, 10), ('reinit', 'random', 'finetune', 'oneshot'), scope='layer',
                   rates={'head': 0.5}),
    'global': trunk(0, 5, rate=0.36),
  })
  c.trunks = ('layer', 'global')
  c.criteria.update({
    'trunk': 'layer', 'at': (3, 6, 10), 'seeds': 1, 'per_class': 100,
    'names': ('large_final', 'small_final', 'large_init', 'large_init_large_final',
              'magnitude_increase', 'movement', 'large_final_same_sign', 'large_final_diff_sign',
              'random', 'snip', 'grasp', 'synflow', 'taylor'),
  })
  c.actions.update({'trunk': 'layer', 'at': (10,), 'seeds': 2})
  c.connectivity.update({'points': (('layer', 0), ('layer', 10)), 'images': 10_000})
  c.curves = (0, 3, 6, 10)


def _cpu(c):
  c.seeds, c.reinits = (0, 1), 1
  c.train.data.update({'per_class': 200, 'test': 4_000, 'shrink': 2})
  c.train.model = {'name': 'resnet8', 'width': 0.5, 'dtype': 'float32'}
  c.train.augment.pad = 2
  c.train.epochs, c.train.batch_size = 16.0, 50  # 640 steps
  # Instability is a matter of rate times steps: fewer steps, larger rates than the paper's.
  c.train.optimizer.lr = 0.3
  c.train.log, c.train.evaluate, c.train.checkpoint = 40, 160, 320
  short = {'epochs': 4.0, 'data': {'validation': 0}}
  c.training = ConfigDict({
    'standard': {},
    'low': {'optimizer': {'lr': 0.03}},
    'warmup': {'optimizer': {'lr': 0.1, 'schedule': {'warmup': 0.6}}},
    'fgsm_low': {**adversarial({'name': 'fgsm_rs', 'eps': EPS, 'alpha': 10 / 255}, 0.03), **short},
    'pgd': {**adversarial(pgd(2, EPS / 2), 0.3, warmup=0.05, start=0.03), **short},
  })
  c.trunk = ConfigDict({
    'rewind': trunk(32, 3, (2,), ('reinit', 'random', 'finetune'), rate=0.6),
    'init': trunk(0, 2, (2,), ('reinit',), rate=0.6),
    'layer': trunk(32, 3, scope='layer', rates={'head': 0.5}, rate=0.6),
    'low': trunk(0, 2, (2,), ('reinit',), 'low', rate=0.6),
    'warmup': trunk(0, 2, (2,), ('reinit',), 'warmup', rate=0.6),
    'adversarial': trunk(0, 1, (1,), ('reinit',), 'pgd', 'fgsm_low', rate=0.8),
  })
  c.criteria.update({
    'at': (2,), 'seeds': 1, 'scope': 'global',
    'names': ('large_final', 'snip', 'grasp', 'synflow', 'taylor'),
  })
  c.actions.names = ()
  c.connectivity.update({'points': (('rewind', 0), ('init', 0)), 'images': 2_000})
  c.attack.update({'images': 1_000})
  c.curves = (0, 1, 2, 3)


def _smoke(c):
  c.seeds, c.reinits = (0,), 1
  c.train.data.update({'name': 'digits', 'per_class': 60, 'test': 200})
  c.train.model = {'name': 'mlp', 'hidden': (48, 32), 'dtype': 'float32'}
  c.train.augment = None
  c.train.epochs, c.train.batch_size = 5.0, 50  # 60 steps
  c.train.log, c.train.evaluate, c.train.checkpoint = 10, 20, 20
  c.finetune = 0.5
  c.training = ConfigDict({
    'standard': {}, 'pgd': {'adversary': {'name': 'pgd', 'eps': 0.1, 'steps': 2, 'alpha': 0.05}},
  })
  c.trunk = ConfigDict({
    'rewind': trunk(12, 2, (1,), ('reinit', 'random', 'finetune'), rate=0.6),
    'layer': trunk(12, 1, scope='layer', rates={'head': 0.5}, rate=0.6),
    'adversarial': trunk(0, 1, (), (), 'pgd', rate=0.6),
  })
  c.trunks = ('rewind', 'layer', 'adversarial')
  c.criteria.update({
    'at': (2,), 'seeds': 1, 'scope': 'global', 'names': ('movement', 'snip'), 'per_class': 5,
  })
  c.actions.update({'at': (1,), 'names': ('frozen_zero_if_shrunk',), 'seeds': 1})
  c.connectivity.update({
    'points': (('rewind', 2),), 'on_line': 3, 'images': 100, 'calibration': 50,
  })
  c.attack.update({'images': 50, 'steps': 3, 'alpha': 0.05})
  c.curves = (0, 2)
