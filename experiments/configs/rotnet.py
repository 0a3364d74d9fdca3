"""RotNet: representations learnt by telling by what angle an image was turned.

Paper: Gidaris et al. 2018 (arXiv 1803.07728): table 1 (depth, and which block to use), table 2
(number of rotations), table 3 (CIFAR-10 against supervised and other methods), figure 4 (few
labels).
Claim: a network that never saw a label makes features on which a small classifier comes near to a
supervised network, and is far better than one where labels are few.

  CONFIG=experiments/configs/rotnet.py
  python experiments/rotnet.py                                     # the paper's scale
  python experiments/rotnet.py --config=$CONFIG:cpu
  python experiments/rotnet.py --config.encoders="('rotnet','random')"

Variants
  (none)    the network in network of the paper on CIFAR-10, 200 epochs, batch 128 (512 turned
            images), 3 to 5 blocks, 2, 4 and 8 rotations, and a ResNet-18 for the comparison with
            SimCLR; a GPU, a day for all. Published: 89.06 % (non-linear), 91.16 % (convolutional),
            92.80 % supervised.
  cpu       real CIFAR-10 on 2 cores, 37 minutes with much other work: 10,000 images of 16 x 16
            pixels (means of 2 x 2), a quarter of the channels, 5 epochs, one seed: orders can be
            compared, numbers cannot. Telling angles from so few images leaves much to learn (60 %),
            and the larger heads want more than their 4 epochs.
  smoke     seconds, embedded digits.

Data. Part of the training images (`validation`) is held out; on it penalties and blocks are
chosen. The test images are looked at once. `labelled` says of which training images labels may be
used at all: 1.0 for all, or a number per class; the amounts of `few` are parts of those. The paper
takes the first images of each class, here they are drawn, `subsets` times. As there, a run on few
labels has the steps of a run on many, and all ways of using the labels of a subset have the same
augmentation.

Heads. All kinds of head on all blocks of a network are trained in one run, on one pass of the
frozen network; as they share nothing but the images, each is what it would be alone. The paper
stops its non-linear classifier after 50 epochs, here it has the 100 of the convolutional one. Decay
is that of the paper's heads, also for the linear one; the other linear probe, L-BFGS on features
computed once without augmentation, has its own penalty.

Comparing with SimCLR: the encoder 'resnet' is that of configs/simclr.py (of its variant 'resnet18')
and sees as many images: four copies of an image a step, where SimCLR sees two views, so it has half
of its epochs. What compares is the mean of its best stage, chosen on the held-out images, with
SimCLR's last.
"""

from ml_collections import ConfigDict


def encoder(model, *angles, epochs=0.0):
  """
  Args:
    model: name of the network.
    angles: in degrees; without any, the network keeps its random weights.
    epochs: 0 for those of `train`.
  """
  return {'model': {'name': model, 'dtype': 'float32'}, 'angles': angles, 'epochs': epochs}


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0, 1, 2)
  c.labelled = 1.0
  c.encoders = (
    'rotnet', 'rotnet_3', 'rotnet_5', 'eight', 'half_turn', 'side_turns', 'random', 'resnet',
    'random_resnet',
  )
  c.encoder = ConfigDict({
    'rotnet': encoder('nin4', 0, 90, 180, 270),
    'rotnet_3': encoder('nin3', 0, 90, 180, 270),
    'rotnet_5': encoder('nin5', 0, 90, 180, 270),
    'eight': encoder('nin4', 0, 45, 90, 135, 180, 225, 270, 315),
    'half_turn': encoder('nin4', 0, 180),
    'side_turns': encoder('nin4', 90, 270),
    'random': encoder('nin4'),
    'resnet': encoder('resnet18', 0, 90, 180, 270, epochs=100.0),  # the images of SimCLR's 200
    'random_resnet': encoder('resnet18'),
  }, convert_dict=True)
  sgd = {'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True, 'weight_decay': 5e-4}
  steps = lambda *milestones: {'name': 'steps', 'milestones': milestones, 'factor': 0.2}
  c.train = ConfigDict({
    'data': {
      'name': 'cifar10', 'folder': '', 'shrink': 1, 'per_class': 0, 'validation': 5_000, 'test': 0,
    },
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 200.0, 'batch_size': 128,
    'optimizer': {**sgd, 'schedule': steps(0.3, 0.6, 0.8)},
    'log': 100, 'evaluate': 3_520, 'checkpoint': 3_520,
  })
  c.heads = ConfigDict({
    'kinds': ('linear', 'mlp', 'conv'), 'hidden': (200, 200), 'width': 192,
    'epochs': 100.0, 'batch_size': 128, 'log': 100,
    'optimizer': {**sgd, 'schedule': steps(0.35, 0.7, 0.85)},
  })
  # Few labels: whole numbers per class, or fractions of the labelled images.
  c.few = ConfigDict({
    'encoder': 'rotnet', 'block': 'block2', 'head': 'conv', 'subsets': 3,
    'amounts': (20, 50, 100, 400, 500, 1000, 1.0),
    'batch_size': 128, 'log': 100,
    'steps': {'heads': 35_000, 'tune': 35_000, 'scratch': 35_000},
    'tune': {**sgd, 'lr': 0.025, 'weight_decay': 0.0, 'schedule': {'name': 'cosine'}},
    'scratch': {**sgd, 'schedule': steps(0.3, 0.6, 0.8)},
  })
  c.probe = ConfigDict({
    'l2': (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-4),
    'side': 0,  # maps are averaged over a grid of so many cells a side; 0: all of a map
    'k': 200, 'temperature': 0.1,
    'bank': 10_000,  # labelled images whose features are the neighbours during training
    'turned': 10_000,  # test images that are turned
    'tsne': 2_000,
  })
  if variant == 'cpu':
    _cpu(c)
  elif variant == 'smoke':
    _smoke(c)
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'cpu' or 'smoke'.")
  return c


def _cpu(c):
  c.seeds, c.labelled = (0,), 500
  c.encoders = ('rotnet', 'half_turn', 'side_turns', 'random', 'resnet', 'random_resnet')
  for name in ('rotnet', 'rotnet_3', 'rotnet_5', 'eight', 'half_turn', 'side_turns', 'random'):
    c.encoder[name].model.width = 0.25
  for name in ('resnet', 'random_resnet'):
    c.encoder[name].model.name = 'resnet8'
  c.encoder.resnet.epochs = 6.0  # the images of SimCLR's 12
  c.train.data.update({'shrink': 2, 'per_class': 1000, 'validation': 2_000, 'test': 3_000})
  c.train.augment.pad = 2
  c.train.epochs, c.train.batch_size = 5.0, 64
  c.train.optimizer.schedule = {'name': 'cosine', 'warmup': 0.05}
  c.train.log, c.train.evaluate, c.train.checkpoint = 50, 195, 195
  c.heads.update({'width': 48, 'epochs': 4.0, 'batch_size': 64, 'log': 50})
  c.heads.optimizer.schedule = {'name': 'cosine', 'warmup': 0.05}
  c.few.update({'amounts': (20, 100, 400, 1.0), 'subsets': 1, 'batch_size': 64, 'log': 50})
  c.few.steps.update({'heads': 300, 'tune': 300, 'scratch': 400})
  c.few.scratch.schedule = {'name': 'cosine', 'warmup': 0.05}
  c.few.tune.lr = 0.05  # a few hundred steps
  c.probe.update({'l2': (1.0, 0.1, 0.01, 0.001), 'side': 4, 'bank': 2_000, 'turned': 1_000,
                  'tsne': 600})


def _smoke(c):
  c.seeds, c.labelled = (0,), 40
  c.encoders = ('rotnet', 'random')
  for name in c.encoders:
    c.encoder[name].model = {'name': 'mlp', 'hidden': (32, 16), 'dtype': 'float32'}
  c.train.data.update({'name': 'digits', 'per_class': 60, 'validation': 100, 'test': 100})
  c.train.augment = None
  c.train.epochs, c.train.batch_size = 2.0, 50
  c.train.optimizer.schedule = {'name': 'cosine'}
  c.train.log, c.train.evaluate, c.train.checkpoint = 4, 12, 12
  c.heads.update({'kinds': ('linear', 'mlp'), 'hidden': (16,), 'epochs': 2.0, 'batch_size': 50,
                  'log': 4})
  c.heads.optimizer.schedule = {'name': 'cosine'}
  c.few.update({'amounts': (10,), 'subsets': 1, 'batch_size': 50, 'log': 4, 'block': 'hidden1',
                'head': 'mlp'})
  c.few.steps.update({'heads': 10, 'tune': 10, 'scratch': 10})
  c.few.scratch.schedule = {'name': 'cosine'}
  c.probe.update({'l2': (0.1, 0.01), 'k': 10, 'bank': 100, 'turned': 50, 'tsne': 40})
