"""SimCLR: representations learnt without labels, by telling an image's other view from all others.

Paper: Chen et al. 2020 (arXiv 2002.05709), appendix B.9 (CIFAR-10), figure B.7 (batch size and
epochs), section 5.1 and figure 8 (projection head), section 6 and table 7 (few labels). Beside it
SimSiam (Chen and He 2021, arXiv 2011.10566) and BYOL (Grill et al. 2020, arXiv 2006.07733), which
need no negatives.
Claim: a linear classifier of the representation comes near to a network trained on the labels, and
is far better than one where labels are few.

  CONFIG=experiments/configs/simclr.py
  python experiments/simclr.py                                  # the paper's scale
  python experiments/simclr.py --config=$CONFIG:resnet18        # a tenth of its cost
  python experiments/simclr.py --config=$CONFIG:cpu
  python experiments/simclr.py --config.grid.epochs="(100,200,300)" --config.grid.lrs="(1.0,)"

Variants
  (none)    appendix B.9: ResNet-50 with a 3x3 stem, batch 1024, 1000 epochs, LARS, learning rate
            1.0 x batch / 256, decay 1e-6, temperature 0.5; several GPUs, days. Published: 94.0 %
            linear evaluation, supervised 95.1 %.
  resnet18  the command for CIFAR-10 in the official README (batch 512, decay 1e-4) at 200 of its
            1000 epochs: one GPU, hours. Published: about 91 % after 1000 epochs; others' nearest
            neighbours 84.7 % after 200 epochs (batch 128).
  cpu       real CIFAR-10 on 2 cores: 10,000 images of 16 x 16 pixels (means of 2 x 2), ResNet-8,
            SGD; 30 minutes with some other work. Compare the order of the arms, not
            the numbers.
  smoke     seconds, embedded digits.

Values. `train.optimizer.lr` and those of `linear`, `tune` and `scratch` are for a batch of 256 and
scale with the batch. `grid` is that of figure B.7, all of its cells beside the arm 'simclr'; for
the whole of appendix B.9 give it the batch sizes 256 ... 4096, epochs 100 ... 1000, learning rates
0.5, 1.0, 1.5 and temperatures 0.1, 0.5, 1.0. The cell nearest to ours is an analogue of theirs,
not a reproduction, wherever the encoder, the batch or the epochs differ.

Optimizers. LARS is optax's, which computes what the official code does: decay, then the trust ratio
0.001 |w| / |g| (1 where either is zero), then the learning rate, then the momentum. `decay:
kernels` leaves biases, batch norm and the online probe out of both, as it does.
"""

from ml_collections import ConfigDict


def arm(method, projection=(), predictor=(), last_norm=True, optimizer=None, view=None, **options):
  """
  Args:
    method: a key of `METHODS` in the experiment.
    projection, predictor, last_norm: of `jaxdl.models.projected.Projected`.
    optimizer: what differs from `train.optimizer`.
    view: what differs from `view`.
    options: of the objective.
  """
  return {
    'method': method, 'projection': projection, 'predictor': predictor, 'last_norm': last_norm,
    'optimizer': optimizer or {}, 'view': view or {}, 'options': options,
  }


def arms(width, out, hidden, without, supervised, probe):
  """The arms for features of `width`, projected to `out`; `hidden` is BYOL's hidden width.

  Args:
    without: the optimizer of the methods without negatives.
    supervised: that of training on labels.
    probe: learning rate of the online probe, as a factor.
  """
  two, small = (width, out), {'probe': probe, 'temperature': 0.5}
  return {
    'simclr': arm('simclr', two, **small),
    'simsiam': arm('simsiam', (width, width), (width // 4, width), True, without, probe=1.0),
    'byol': arm(
      'byol', (hidden, 2 * out), (hidden, 2 * out), False, without, probe=1.0, decay=0.99
    ),
    'supervised': arm('supervised', optimizer=supervised),
    'random': arm('random'),
    'no_colour': arm('simclr', two, view={'colour': 0.0}, **small),
    'no_crop': arm('simclr', two, view={'crop': ()}, **small),
    'tau01': arm('simclr', two, probe=probe, temperature=0.1),
    'tau1': arm('simclr', two, probe=probe, temperature=1.0),
    'linear_head': arm('simclr', (out,), **small),
    'no_head': arm('simclr', (), **small),
  }


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0,)
  c.warmup = 10.0  # epochs
  c.view = ConfigDict({'crop': (0.08, 1.0), 'colour': 0.5, 'blur': False})
  c.train = ConfigDict({
    'data': {
      'name': 'cifar10', 'folder': '', 'shrink': 1, 'per_class': 0, 'validation': 5_000, 'test': 0,
    },
    'model': {'name': 'resnet50', 'dtype': 'float32'},
    'epochs': 1000.0, 'batch_size': 1024,
    'optimizer': {
      'name': 'lars', 'lr': 1.0, 'momentum': 0.9, 'weight_decay': 1e-6, 'decay': 'kernels',
      'schedule': {'name': 'cosine'},
    },
    'log': 100,
  })
  c.evaluate, c.checkpoint = 10.0, 10.0  # periods of pre-training in epochs
  sgd = {'name': 'sgd', 'lr': 0.03, 'weight_decay': 5e-4, 'decay': 'all'}
  c.arms = (
    'simclr', 'simsiam', 'byol', 'supervised', 'random', 'no_colour', 'no_crop', 'tau01', 'tau1',
    'linear_head', 'no_head',
  )
  labels = {'name': 'sgd', 'lr': 0.1, 'weight_decay': 5e-4, 'decay': 'all'}
  c.arm = ConfigDict(arms(2048, 128, 4096, sgd, labels, 0.1), convert_dict=True)
  c.grid = ConfigDict({  # empty batch_sizes for none
    'batch_sizes': (256, 512, 1024), 'epochs': (100.0, 200.0, 500.0, 1000.0), 'lrs': (1.0,),
    'temperatures': (0.5,),
  })
  c.augment = ConfigDict({'pad': 4, 'mode': 'constant', 'flip': True})  # wherever labels train
  nesterov = {'name': 'sgd', 'momentum': 0.9, 'nesterov': True, 'schedule': {'name': 'cosine'}}
  c.linear = ConfigDict({  # linear evaluation by SGD, on the frozen network
    'arms': ('simclr', 'simsiam', 'byol', 'random'), 'epochs': 90.0, 'batch_size': 512,
    'optimizer': {**nesterov, 'nesterov': False, 'lr': 0.1, 'weight_decay': 0.0}, 'log': 100,
  })
  # Few labels: fractions, or whole numbers per class. The whole network is tuned, and trained from
  # scratch, for so many epochs, at least `least` steps.
  c.labels = ConfigDict({
    'amounts': (0.01, 0.05, 0.1, 0.5, 1.0), 'subsets': 3, 'arm': 'simclr', 'batch_size': 128,
    'epochs': 30.0, 'least': 2_000, 'log': 100,
    'tune': {**nesterov, 'lr': 0.05, 'weight_decay': 0.0},
    'scratch': {**nesterov, 'lr': 0.1, 'weight_decay': 5e-4},
  })
  c.probe = ConfigDict({
    'l2': (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-4), 'k': 200, 'temperature': 0.1,
    'bank': 10_000,  # training images whose features are the online neighbours
    'views': 2_000,  # test images of which two views are compared
    'tsne': 2_000,  # test images in the pictures of the first seed; 0 for none
  })
  if variant == 'resnet18':
    c.train.model.name = 'resnet18'
    c.train.epochs, c.train.batch_size, c.train.optimizer.weight_decay = 200.0, 512, 1e-4
    c.arm = ConfigDict(arms(512, 128, 1024, sgd, labels, 0.1), convert_dict=True)
    c.grid.update({'batch_sizes': (256, 512), 'epochs': (100.0, 200.0)})
  elif variant == 'cpu':
    _cpu(c)
  elif variant == 'smoke':
    _smoke(c)
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'resnet18', 'cpu' or 'smoke'.")
  return c


def _cpu(c):
  c.seeds = (0, 1)
  c.warmup = 1.0
  c.train.data.update({'shrink': 2, 'per_class': 1000, 'validation': 0, 'test': 5_000})
  c.train.model.name = 'resnet8'
  c.train.epochs, c.train.batch_size, c.train.log = 12.0, 256, 39
  c.train.optimizer = ConfigDict({
    'name': 'sgd', 'lr': 0.3, 'momentum': 0.9, 'weight_decay': 1e-4, 'decay': 'kernels',
    'schedule': {'name': 'cosine'},
  })
  c.evaluate, c.checkpoint = 3.0, 1.0
  c.arm = ConfigDict(
    arms(64, 64, 128, {'lr': 0.1, 'weight_decay': 5e-4}, {'lr': 0.1, 'weight_decay': 5e-4}, 0.1),
    convert_dict=True,
  )
  c.arms = ('simclr', 'simsiam', 'supervised', 'random', 'no_colour')
  c.grid.update({'batch_sizes': (128, 256), 'epochs': (4.0, 12.0), 'lrs': (0.3,)})
  c.augment.pad = 2
  c.linear.update({'arms': ('simclr', 'random'), 'epochs': 10.0, 'batch_size': 256})
  c.labels.update({'amounts': (0.01, 0.1, 1.0), 'least': 400, 'epochs': 8.0})
  c.probe.update({'l2': (1.0, 0.1, 0.01), 'bank': 5_000, 'views': 1_000, 'tsne': 1_000})


def _smoke(c):
  c.warmup = 0.5
  c.train.data.update({'name': 'digits', 'per_class': 40, 'validation': 0, 'test': 100})
  c.train.model = {'name': 'mlp', 'hidden': (32,), 'dtype': 'float32'}
  c.train.epochs, c.train.batch_size, c.train.log = 4.0, 50, 4
  c.train.optimizer = ConfigDict({
    'name': 'sgd', 'lr': 0.5, 'momentum': 0.9, 'weight_decay': 1e-4, 'decay': 'kernels',
    'schedule': {'name': 'cosine'},
  })
  c.view.update({'crop': (0.5, 1.0), 'colour': 0.0})
  c.evaluate, c.checkpoint = 2.0, 1.0
  c.arm = ConfigDict(arms(32, 16, 32, {'lr': 0.5}, {'lr': 0.1}, 1.0), convert_dict=True)
  c.arms = ('simclr', 'byol', 'random')
  c.grid.update({'batch_sizes': (50,), 'epochs': (2.0, 4.0), 'lrs': (0.5,)})
  c.augment.pad = 1
  c.linear.update({'arms': ('simclr',), 'epochs': 4.0, 'batch_size': 50, 'log': 4})
  c.labels.update({'amounts': (4,), 'subsets': 2, 'batch_size': 50, 'epochs': 2.0, 'least': 16,
                   'log': 4})
  c.labels.scratch.lr = c.labels.tune.lr = 1.0
  c.probe.update({'l2': (0.1, 0.01), 'k': 20, 'bank': 200, 'views': 50, 'tsne': 0})
