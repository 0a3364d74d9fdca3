"""Noise-aware training and SAM: does a flat minimum generalise, and survive noise and rounding?

Papers: Foret et al. 2021 (arXiv 2010.01412, SAM), Kwon et al. 2021 (arXiv 2102.11600, ASAM).
Claim: minimising the worst loss within a ball around the weights beats SGD on test accuracy (an L2
ball), and should help against Gaussian weight noise and, with an L-infinity ball, against rounding.

  python experiments/noise_aware.py                                          # the paper's scale
  python experiments/noise_aware.py --config=experiments/configs/noise_aware.py:cpu
  python experiments/noise_aware.py --config=experiments/configs/noise_aware.py:smoke

Variants
  (none)  the paper's scale: ResNet-20, whole CIFAR-10, 200 epochs, 5 seeds; a GPU.
          Expected: SGD near the 91.25 % of He et al., SAM no lower; no paper has this network's
          noise and rounding curves.
  grid    the same, one seed, 5,000 validation images: every rho and sigma of the papers' grids.
  cpu     real CIFAR-10 on 2 cores in about 90 minutes: ResNet-8, 10,000 training images, 2 seeds.
          Small: read the orderings, not the accuracies.
  smoke   a minute or two, embedded digits.
"""

from ml_collections import ConfigDict


def sam(rho, **options):
  return {'perturbation': {'name': 'sam', 'rho': rho, **options}}


def gaussian(sigma, relative=False):
  return {'perturbation': {'name': 'gaussian', 'sigma': sigma, 'relative': relative}}


ARMS = {
  'sgd': {},
  'sgd_2x': {'epochs_factor': 2},
  'gaussian_absolute': gaussian(0.01),
  'gaussian_relative': gaussian(0.1, relative=True),
  'sam_l2': sam(0.1),
  'sam_linf': sam(5e-4, norm='linf'),
  'sam_k3': sam(0.1, steps=3),
  'asam': sam(0.5, adaptive=True),
}

GRID = {
  'sgd': {},
  **{f'gaussian_absolute_{s}': gaussian(s) for s in (0.001, 0.003, 0.01, 0.03)},
  **{f'gaussian_relative_{s}': gaussian(s, relative=True) for s in (0.01, 0.03, 0.1, 0.2)},
  **{f'sam_l2_{r}': sam(r) for r in (0.02, 0.05, 0.1, 0.2)},
  **{f'sam_linf_{r}': sam(r, norm='linf') for r in (1e-4, 2e-4, 5e-4, 1e-3, 2e-3)},
  **{f'sam_k{k}': sam(0.1, steps=k) for k in (2, 3, 5)},
  **{f'sam_m{128 // n}': sam(0.1, microbatches=n) for n in (4, 16)},
  **{f'asam_{r}': sam(r, adaptive=True) for r in (0.2, 0.5, 1.0)},
  'random_direction': sam(0.1, norm='random'),
}


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0, 1, 2, 3, 4)
  c.seed_axis = 'off'  # 'on': the seeds of an arm in one program
  _set_arms(c, ARMS)
  c.train = ConfigDict({
    'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'validation': 0, 'test': 0},
    'model': {'name': 'resnet20', 'dtype': 'float32'},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 200.0,
    'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True, 'weight_decay': 5e-4,
      'schedule': {'name': 'cosine'},
    },
    'log': 100, 'evaluate': 3900, 'checkpoint': 2000,
  })
  c.analysis = ConfigDict({
    'test': 10_000,  # test images the perturbed networks are evaluated on
    'train': 2_000,  # training images of the attack on the weights, the Hessian and the slices
    'calibration': 500,  # training images that recompute the batch statistics
    'draws': 20,
    'relative': (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
    'absolute': (0.001, 0.003, 0.01, 0.03, 0.1),
    'l2': (0.05, 0.1, 0.2, 0.5, 1.0),
    'linf': (1e-4, 2e-4, 5e-4, 1e-3, 2e-3),
    'attack_steps': 20,
    'bits': (8, 6, 5, 4, 3, 2),
    'eigenvalues': 5, 'lanczos': 25,
    'line': 41, 'surface': 25, 'span': 1.0,  # the slices, of the first seed
  })
  if variant == 'grid':
    _set_arms(c, GRID)
    c.seeds = (0,)
    c.train.data.validation = 5_000
  elif variant == 'cpu':
    c.seeds = (0, 1)
    c.train.data.per_class = 1_000
    c.train.model.name = 'resnet8'
    c.train.epochs = 8.0
    c.train.log, c.train.evaluate, c.train.checkpoint = 39, 156, 156
    c.analysis.update({
      'test': 1_000, 'train': 300, 'draws': 3,
      'relative': (0.05, 0.1, 0.2, 0.3, 0.5), 'absolute': (0.003, 0.01, 0.03, 0.1),
      'l2': (0.05, 0.2, 0.5), 'linf': (2e-4, 5e-4, 2e-3), 'attack_steps': 10,
      'lanczos': 15, 'line': 21, 'surface': 9,
    })
  elif variant == 'smoke':
    c.seeds = (0,)
    c.train.data.name = 'digits'
    c.train.data.per_class = 100
    c.train.model = {'name': 'mlp', 'hidden': (64, 64), 'dtype': 'float32'}
    c.train.augment = {'pad': 1, 'mode': 'constant', 'flip': False}
    c.train.epochs, c.train.batch_size = 10.0, 50
    c.train.log, c.train.evaluate, c.train.checkpoint = 20, 50, 50
    c.analysis.update({
      'test': 200, 'train': 100, 'calibration': 50, 'draws': 2, 'relative': (0.1, 0.3),
      'absolute': (0.01, 0.1), 'l2': (0.1, 0.5), 'linf': (5e-4, 2e-3), 'attack_steps': 3,
      'bits': (8, 4, 2), 'eigenvalues': 2, 'lanczos': 4, 'line': 5, 'surface': 5,
    })
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'grid', 'cpu' or 'smoke'.")
  return c


def _set_arms(c, arms):
  # A dot in a key would make it unreachable as --config.arm.<name>.
  full = {'epochs_factor': 1, 'perturbation': None}
  arms = {name.replace('.', 'p'): {**full, **arm} for name, arm in arms.items()}
  c.arms = tuple(arms)  # which to run, in this order
  c.arm = ConfigDict(arms, convert_dict=True)
