"""Selective prediction: who knows best what they do not know?

Papers: Geifman, Uziel and El-Yaniv 2019 (arXiv 1805.08206: AURC, E-AURC), Galil, Dabbah and
El-Yaniv 2023 (arXiv 2302.11874: coverage at a required accuracy), Guo et al. 2017 (arXiv
1706.04599: temperature scaling), Gal and Ghahramani 2016 (arXiv 1506.02142: MC dropout),
Lakshminarayanan et al. 2017 (arXiv 1612.01474: deep ensembles). Claims: ensembles are better than
one network by every measure, MC dropout somewhat better; label smoothing states better
probabilities and orders them worse; a temperature changes the stated probabilities and hardly the
order.

  python experiments/selective_prediction.py                                  # the papers' scale
  CONFIG=experiments/configs/selective_prediction.py
  python experiments/selective_prediction.py --config=$CONFIG:cpu

CIFAR-10 leaves a good network so few mistakes (about 400 of 10,000) that its AUROC is known to half
a point only; CIFAR-100 leaves it 2,000.

Variants
  (none)  WRN-28-10 with dropout 0.3, 45,000 images, 200 epochs, 5 plain networks and 3 of each
          other arm, 30 passes; GPUs, days (wrn16_4: one GPU, a day). Published for CIFAR-10 and
          CIFAR-100: NLL 0.159 / 0.875, MC dropout 0.145 / 0.785, 4 networks 0.114 / 0.666.
  cpu     2 cores, 26 minutes with other work: WRN-10-1 of half the width with dropout 0.2, 10,000
          images, 6 epochs, 4 plain networks and 2 of each other arm, 10 passes, 3,000 test images.
          So short a training leaves networks unsure rather than too sure.
  smoke   a minute, embedded digits.
"""

from ml_collections import ConfigDict


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0, 1, 2, 3, 4)  # of the plain networks, the members of the ensemble
  c.paired = 3  # of other arms, the first of these seeds; and of MC dropout
  c.arm = ConfigDict({  # what an arm changes in `train`
    'plain': {},
    'label_smoothing': {'label_smoothing': 0.1},
    'mixup': {'augment': {'mixup': {'alpha': 0.2}}},
  })
  c.arms = ('plain', 'label_smoothing', 'mixup')
  data = lambda name: {
    'name': name, 'folder': '', 'per_class': 0, 'validation': 5_000, 'test': 0,
  }
  c.data = ConfigDict({'cifar10': data('cifar10'), 'cifar100': data('cifar100')})
  c.sets = ('cifar10', 'cifar100')
  c.train = ConfigDict({
    'model': {'name': 'wrn28_10', 'dropout': 0.3, 'dtype': 'float32'},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 200.0, 'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True, 'weight_decay': 5e-4,
      'schedule': {'name': 'cosine', 'warmup': 0.0},
    },
    'log': 100, 'evaluate': 3_520, 'checkpoint': 3_520,
  })
  c.passes = 30  # of MC dropout
  c.required = (0.9, 0.95, 0.98)  # selective accuracies
  c.coverages = (0.5, 0.8)  # at which a risk is shown
  c.corruptions, c.severity = ('gaussian_noise', 'defocus_blur', 'contrast'), 3
  c.resamples = 1_000
  if variant == 'cpu':
    c.seeds, c.paired = (0, 1, 2, 3), 2
    c.data.cifar10.update({'per_class': 1_000, 'validation': 1_000, 'test': 3_000})
    c.data.cifar100.update({'per_class': 100, 'validation': 1_000, 'test': 3_000})
    c.train.model = {'name': 'wrn10_1', 'width': 0.5, 'dropout': 0.2, 'dtype': 'float32'}
    c.train.augment.pad = 2
    c.train.epochs, c.train.batch_size = 6.0, 64
    c.train.optimizer.lr, c.train.optimizer.schedule.warmup = 0.1, 0.1
    c.train.log, c.train.evaluate, c.train.checkpoint = 47, 235, 469
    c.passes = 10
    c.required, c.coverages = (0.6, 0.7, 0.8, 0.9, 0.95), (0.2, 0.5)
    c.corruptions = ('gaussian_noise', 'contrast')
  elif variant == 'smoke':
    c.seeds, c.paired = (0, 1), 1
    c.arms = ('plain', 'label_smoothing')
    c.data = ConfigDict({'digits': data('digits')})
    c.data.digits.update({'per_class': 20, 'validation': 100, 'test': 300})
    c.sets = ('digits',)
    c.train.model = {'name': 'mlp', 'hidden': (32,), 'dropout': 0.2, 'dtype': 'float32'}
    c.train.augment = None
    c.train.epochs, c.train.batch_size, c.train.optimizer.lr = 4.0, 20, 0.02
    c.train.log, c.train.evaluate, c.train.checkpoint = 5, 20, 20
    c.passes, c.resamples, c.required, c.coverages = 5, 20, (0.9, 0.98), (0.5,)
    c.corruptions = ('gaussian_noise',)
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'cpu' or 'smoke'.")
  return c
