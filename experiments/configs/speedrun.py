"""The CIFAR-10 speed run: how fast a small network reaches 94 %, and what each trick brings.

Papers: Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU (arXiv 2404.00498), and its
code, github.com/KellerJordan/cifar10-airbench: 94.01 % with test-time views in 3.83 s (3.09 s
compiled) with SGD, mean of 1000 runs, and in 2.59 s with Muon (Jordan et al. 2024,
kellerjordan.github.io/posts/muon), mean of 200 runs, each on one A100.
Claim: a frozen whitening convolution, identity initialisation, biases with a rate of their own,
lookahead, alternating flips and test-time views each save training time.

  python experiments/speedrun.py                                             # the paper's setting
  python experiments/speedrun.py --config=experiments/configs/speedrun.py:cpu
  python experiments/speedrun.py --config=experiments/configs/speedrun.py:smoke

Variants
  (none)  the paper's network, batch sizes and numbers of updates on the whole set, 10 seeds; one
          GPU (bfloat16). Expected: 94.0 % with test-time views for both optimizers; the time has
          not been measured here.
  cpu     real CIFAR-10 on 2 cores in about 45 minutes: a quarter of the width, 20,000 images, 4
          epochs, 2 seeds. Each trick is left out once, and all at once; a ResNet-8 sees the same
          number of images. Small: read the order, not the accuracies.
  smoke   a minute or two, embedded procedural images.
"""

from ml_collections import ConfigDict

WIDTHS = (64, 256, 256)


def muon(widths, **change):
  """Arm: Muon, and the last layer that its rates were made for."""
  return {
    'model': {'head_std': 1.0, 'scale': 1 / widths[-1]},
    'optimizer': {'name': 'airbench_muon'},
    **change,
  }


NO_TRICKS = {
  'whitening': False, 'flip': 'random', 'model': {'identity': False},
  'optimizer': {'average': False, 'bias_scale': 1.0},
}
ABLATION = {
  'no_whitening': {'whitening': False},
  'no_identity': {'model': {'identity': False}},
  'no_bias_rate': {'optimizer': {'bias_scale': 1.0}},
  'no_lookahead': {'optimizer': {'average': False}},
  'random_flip': {'flip': 'random'},
  'no_tricks': NO_TRICKS,
}
RESNET = {  # the usual recipe for a small ResNet, with a schedule that fits a short run
  'model': {'name': 'resnet8', 'dtype': 'float32'},
  'whitening': False, 'flip': 'random', 'pad': 4, 'mode': 'constant', 'smoothing': 0.0,
  'batch_size': 128,
  'optimizer': {
    'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True, 'weight_decay': 5e-4,
    'schedule': {'name': 'cosine', 'warmup': 0.1},
  },
}


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = tuple(range(10))
  c.target = 94.0  # %, without test-time views: when was it first reached?
  c.train = ConfigDict({
    'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'validation': 0, 'test': 0},
    'model': {
      'name': 'airbench', 'dtype': 'bfloat16', 'widths': WIDTHS, 'identity': True,
      'scale': 1 / 9, 'head_std': None,
    },
    'whitening': True,  # from the first 5,000 training images, then frozen
    'whiten_epochs': 3.0,  # the bias of that convolution is trained for so long
    'flip': 'alternating', 'pad': 2, 'mode': 'reflect', 'smoothing': 0.2,
    'epochs': 9.75,  # 476 updates, as 9.9 epochs of 48 whole batches
    'batch_size': 1024,
    'optimizer': {'name': 'airbench_sgd', 'lr': 11.5, 'average': True, 'bias_scale': 64.0},
    # Epochs between two evaluations and checkpoints (0: at the end), steps between two log lines.
    'evaluate': 1.0, 'checkpoint': 0.0, 'log': 50,
  })
  arms = {'sgd': {}, 'muon': muon(WIDTHS, epochs=8.0, batch_size=2000), **ABLATION}
  if variant == 'cpu':
    widths = (16, 64, 64)
    c.seeds, c.target = (0, 1), 70.0
    c.train.data.per_class = 2_000
    c.train.model.update({'widths': widths, 'dtype': 'float32'})
    c.train.epochs, c.train.whiten_epochs, c.train.batch_size = 4.0, 1.25, 250
    # For fewer images than the papers: of 11.5, 23 and 46 the best on 5,000 held-out images.
    c.train.optimizer.lr = 23.0
    c.train.checkpoint, c.train.log = 1.0, 20
    arms = {'sgd': {}, 'muon': muon(widths), **ABLATION, 'resnet8': RESNET}
  elif variant == 'smoke':
    widths = (8, 16, 16)
    c.seeds, c.target = (0,), 50.0
    c.train.data.name, c.train.data.per_class, c.train.data.test = 'shapes', 60, 200
    c.train.model.update({'widths': widths, 'dtype': 'float32'})
    c.train.epochs, c.train.whiten_epochs, c.train.batch_size = 6.0, 4.0, 50
    c.train.optimizer.lr = 92.0
    c.train.checkpoint, c.train.log = 3.0, 6
    arms = {'sgd': {}, 'muon': muon(widths), 'no_tricks': NO_TRICKS}
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'cpu' or 'smoke'.")
  c.arms = tuple(arms)  # which to run, in this order; the others are compared with the first
  c.arm = ConfigDict(arms, convert_dict=True)
  return c
