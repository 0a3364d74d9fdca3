"""LQ-Nets: weights and activations of a few bits, on levels that are learned.

Paper: Zhang et al. 2018 (arXiv 1807.10029). Claims: with a learned basis for each output channel 3
bits of weights cost ResNet-20 next to nothing, 2 bits a little and 1 bit about two points; learned
levels are no worse than equal steps. Beyond it: a soft threshold on the basis makes bits vanish
where they matter least, so that the average precision becomes a continuous choice.

  python experiments/lq_nets.py                                        # the paper's scale
  CONFIG=experiments/configs/lq_nets.py
  python experiments/lq_nets.py --config=$CONFIG:cpu
  python experiments/lq_nets.py --config=$CONFIG:smoke

Variants
  (none)  the paper's setting: ResNet-20, whole CIFAR-10, 200 epochs, 3 seeds, every arm of table 4
          and the other quantizers; a GPU. Expected (table 4): 92.1 in float, 90.1 / 91.8 / 92.0
          with 1 / 2 / 3 bits of weights, 88.4 with 1/2, 90.2 with 2/2, 91.6 with 3/3.
  vgg     the paper's other network, VGG-small, with the recipe of the published code, 400 epochs.
          Expected: 93.8 in float, 93.4 with 1/2, 93.5 with 2/2, 93.8 with 2/3 and 3/3.
  cpu     real CIFAR-10 at 16 x 16 pixels on 2 cores: ResNet-8, 20,000 images, 6 epochs; three
          seeds of the orderings of bits, one of the rest; 90 minutes with about half a core of its
          own. Seen: 63.0 in float, 59.1 / 60.8 / 62.2 with 1 / 2 / 3 bits of weights; 2 bits of
          activations cost 5 points after so little training. Not seen: an advantage over equal
          steps.
  smoke   seconds, embedded digits and a small MLP.
"""

from ml_collections import ConfigDict


def bits(weights, activations=32, name='lq'):
  return {'name': name, 'weights': weights, 'activations': activations}


ARMS = {
  'float': None,
  'w3': bits(3), 'w2': bits(2), 'w1': bits(1),
  'w1a2': bits(1, 2), 'w2a2': bits(2, 2), 'w2a3': bits(2, 3), 'w3a3': bits(3, 3),
  'w3a2': bits(3, 2),
  **{
    f'{name}_{arm}': bits(*pair, name=name)
    for name in ('uniform', 'dorefa', 'lsq') for arm, pair in (('w2', (2,)), ('w2a2', (2, 2)))
  },
  'uniform_w3': bits(3, name='uniform'),
}
# The arms of the orderings: three seeds in the variant `cpu`, the others one.
REPEATED = ('float', 'w3', 'w2', 'w1', 'uniform_w2')


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0, 1, 2)
  c.arm = ConfigDict({
    name: {'quantization': arm, 'seeds': 0} for name, arm in ARMS.items()  # 0: all of them
  })
  c.arms = tuple(ARMS)
  c.train = ConfigDict({
    'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'validation': 0, 'test': 0},
    'model': {'name': 'resnet20', 'dtype': 'float32'},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 200.0, 'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4,
      'decay': 'kernels',  # batch normalisation and learned steps are not decayed
      'schedule': {'name': 'steps', 'milestones': (0.41, 0.615), 'factor': 0.1},
    },
    'log': 100, 'evaluate': 3900, 'checkpoint': 2000,
  })
  # The soft threshold: the bits to start with; strengths to sweep, for each scale they are relative
  # to (see jaxdl.quantization.sparse); and when, as fractions of the run: it rises from `start` to
  # `full`, and from `freeze` on zeros stay and nothing more is cut.
  # Variants, at some strengths of `scale`: `revive` lets a bit come back until `freeze`; the other
  # two train anew with as many bits, `shuffled` among a layer's channels, or `even` over layers.
  c.sparsity = ConfigDict({
    'lams': {'one': (0.0002, 0.0004, 0.0006, 0.001, 0.0015, 0.002, 0.003, 0.004),
             'channel': (0.024, 0.026, 0.027, 0.028, 0.045, 0.05)},
    'weights': 3, 'start': 0.2, 'full': 0.25, 'freeze': 0.6, 'least': 0, 'scale': 'one',
    'variants': ('revive', 'shuffled', 'even'), 'variant_lams': (0.001, 0.002), 'seeds': 0,
  })
  c.survey = ConfigDict({'images': 256, 'fit_bits': (1, 2, 3, 4), 'shown': ('w2', 'w3')})
  if variant == 'vgg':
    c.train.model.name = 'vgg_small'
    c.arms = ('float', 'w1a2', 'w2a2', 'w2a3', 'w3a3', 'uniform_w2a2', 'dorefa_w2a2', 'lsq_w2a2')
    c.sparsity.lams, c.sparsity.variants = {}, ()
    c.train.epochs, c.train.batch_size = 400.0, 100
    c.train.optimizer.update({'lr': 0.02, 'weight_decay': 5e-4})
    c.train.optimizer.schedule.milestones = (0.2, 0.4, 0.75)
  elif variant == 'cpu':
    for arm in c.arm:
      if arm not in REPEATED:
        c.arm[arm].seeds = 1
    c.train.data.update({'per_class': 2000, 'shrink': 2})
    c.train.model.name = 'resnet8'
    c.train.augment.pad = 1
    c.train.epochs, c.train.batch_size = 6.0, 64
    c.train.optimizer.schedule = {'name': 'cosine', 'warmup': 0.05}
    c.train.log, c.train.evaluate, c.train.checkpoint = 75, 1875, 625
    c.sparsity.lams = {'one': (0.0012, 0.0016, 0.0022, 0.003), 'channel': (0.027,)}
    # The learning rate falls from the start: what vanishes must go early, while there is enough
    # left of it to recover.
    c.sparsity.update({
      'freeze': 0.4, 'variants': ('shuffled', 'even'), 'variant_lams': (0.0022,), 'seeds': 1,
    })
  elif variant == 'smoke':
    c.seeds = (0,)
    c.arms = ('w2a2',)
    c.train.data.name, c.train.data.per_class, c.train.data.test = 'digits', 20, 200
    c.train.model = {'name': 'mlp', 'hidden': (32, 24), 'dtype': 'float32'}
    c.train.augment = None
    c.train.epochs, c.train.batch_size, c.train.optimizer.lr = 12.0, 50, 0.05
    c.train.log, c.train.evaluate, c.train.checkpoint = 12, 24, 24
    c.sparsity.lams = {'one': (0.012,)}
    c.sparsity.update({'variants': ('shuffled',), 'variant_lams': (0.012,), 'weights': 2})
    c.survey.update({'images': 50, 'fit_bits': (2,), 'shown': ('w2a2',)})
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'vgg', 'cpu' or 'smoke'.")
  return c
