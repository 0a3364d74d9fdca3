"""Adversarial patches: how large must a sticker be, and does it fool networks it never saw?

Paper: Brown et al. 2017 (arXiv 1712.09665). Claim: one small image, made for one or a few networks,
makes them err on almost any image, wherever it is pasted; and it fools networks it was not made
for. The paper has no numbers on CIFAR-10. Sides of 3, 5, 7 and 16 pixels are 0.88, 2.44, 4.79 and
25 % of its area.

  python experiments/adversarial_patch.py                                          # for a GPU
  python experiments/adversarial_patch.py --config=experiments/configs/adversarial_patch.py:cpu
  python experiments/adversarial_patch.py --config=experiments/configs/adversarial_patch.py:smoke

Variants
  (none)  ResNet-20, DenseNet-BC-100-12, VGG-16 and a robust ResNet-20, 200 epochs of CIFAR-10;
          2,000 steps of 128 images for each of 11 patches of four sizes. Expected, untargeted: 15
          to 35 % at 3 x 3, 40 to 65 at 5 x 5, 65 to 85 at 7 x 7, about 90 at 16 x 16; targeted
          lower at 3 and 5. Transfer is much weaker, and need not grow with the size.
  cpu     real CIFAR-10: ResNet-8, DenseNet-BC-10-12 and VGG-11 at a quarter of its width, 15,000
          images, 5 epochs; 110 steps of 32 images. An hour on 2 cores with much other work. Small:
          read the orderings, not the rates.
  smoke   a minute, embedded digits and two MLPs, the patch always at the centre.
"""

from ml_collections import ConfigDict

SHIFT = {'location': 'random', 'turns': False}
TURNS = {'location': 'random', 'turns': True, 'brightness': 0.1}
AFFINE = TURNS | {'angle': 22.5, 'scale': (0.8, 1.2)}


def arm(sources, sizes, place='turns', shape='square', targets='all', **more):
  """Patches that are made for these victims (several: an ensemble), of each size.

  Without a class in it, `targets` has the untargeted patch alone; 'all' adds every class.
  `disguise` = {'of': class, 'eps': e} keeps a patch within e of the middle of an image of a class;
  `steps` are for this arm instead of the common ones.
  """
  return {'sources': sources, 'sizes': sizes, 'place': place, 'shape': shape, 'targets': targets,
          **more}


def get_config(variant=''):
  c = ConfigDict()
  c.seed = 0
  c.train = ConfigDict({
    'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'validation': 0, 'test': 0},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 200.0,
    'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True, 'weight_decay': 5e-4,
      'schedule': {'name': 'cosine'},
    },
    'log': 100, 'evaluate': 3900, 'checkpoint': 2000,
  })
  c.places = ConfigDict({  # how a patch is pasted, by name
    'fixed': {'location': 'centre', 'turns': False},
    'shift': SHIFT, 'turns': TURNS, 'affine': AFFINE,
  })
  c.patch = ConfigDict({
    'batch_size': 128, 'steps': 2_000, 'pixels': 'sigmoid', 'noise': 0.0, 'kappa': 5.0,
    'optimizer': {'name': 'adam', 'lr': 0.05, 'schedule': {'name': 'cosine'}},
    'log': 50, 'checkpoint': 1_000,
  })
  c.evaluation = ConfigDict({
    'place': 'turns', 'placements': 5,  # drawn once and for all
    'test': 2_000,  # test images
    'train': 1_000,  # training images on which the best targeted patch is chosen
  })
  c.positions = ConfigDict({'arm': 'resnet', 'sizes': (5, 16), 'images': 500, 'stride': 1})
  c.placements = ConfigDict({  # trained at one kind of place, pasted at another
    'arms': ('fixed', 'shift', 'turns', 'affine'), 'size': 7, 'test': 2_000,
  })
  sizes = (3, 5, 7, 16)
  victims = {
    'resnet': {'model': {'name': 'resnet20', 'dtype': 'float32'}},
    'densenet': {'model': {'name': 'densenet100_12', 'dtype': 'float32'}},
    'vgg': {'model': {'name': 'vgg16_bn', 'dtype': 'float32'}},
    'robust': {
      'model': {'name': 'resnet20', 'dtype': 'float32'},
      'adversary': {'name': 'pgd', 'norm': 'linf', 'eps': 8 / 255, 'steps': 7, 'alpha': 2 / 255},
    },
  }
  arms = {name: arm((name,), sizes) for name in victims} | {
    'resnet_circle': arm(('resnet',), sizes, shape='circle'),
    'resnet_vgg': arm(('resnet', 'vgg'), sizes),
    'resnet_densenet': arm(('resnet', 'densenet'), sizes),
    'all_three': arm(('resnet', 'densenet', 'vgg'), sizes),
    'disguised_0p1': arm(('resnet',), (7, 16), disguise={'of': 6, 'eps': 0.1}),
    'disguised_0p3': arm(('resnet',), (7, 16), disguise={'of': 6, 'eps': 0.3}),
  }
  trained_at = {name: arm(('resnet',), (7,), place=name, targets=(0, 3, 7))
                for name in ('fixed', 'shift', 'turns', 'affine')}
  if variant == 'cpu':
    c.train.data.per_class = 1_500
    c.train.epochs = 5.0
    c.train.log, c.train.evaluate, c.train.checkpoint = 39, 293, 293
    c.patch.batch_size, c.patch.steps, c.patch.log, c.patch.checkpoint = 32, 110, 10, 55
    c.patch.optimizer.lr = 0.2
    c.evaluation.test, c.evaluation.train = 250, 150
    c.positions.images, c.positions.stride = 100, 3
    c.placements.test = 200
    victims = {
      'resnet': {'model': {'name': 'resnet8', 'dtype': 'float32'}},
      'densenet': {'model': {'name': 'densenet10_12', 'dtype': 'float32'}},
      'vgg': {'model': {'name': 'vgg11_bn', 'width': 0.25, 'dtype': 'float32'}},
    }
    arms = {name: arm((name,), sizes) for name in victims} | {
      'resnet_circle': arm(('resnet',), sizes, shape='circle'),
      'resnet_vgg': arm(('resnet', 'vgg'), (5, 16)),
      'resnet_long': arm(('resnet',), (7,), targets=(0, 3, 7), steps=440),
      'disguised_0p1': arm(('resnet',), (16,), disguise={'of': 6, 'eps': 0.1}),
      'disguised_0p3': arm(('resnet',), (16,), disguise={'of': 6, 'eps': 0.3}),
    }
  elif variant == 'smoke':
    c.train.data.name = 'digits'
    c.train.augment = {'pad': 1, 'mode': 'constant', 'flip': False}
    c.train.epochs, c.train.batch_size = 10.0, 50
    c.train.log, c.train.evaluate, c.train.checkpoint = 50, 200, 200
    c.patch.batch_size, c.patch.steps, c.patch.log, c.patch.checkpoint = 50, 60, 10, 30
    c.patch.optimizer.lr = 0.3
    c.evaluation.test, c.evaluation.train, c.evaluation.placements = 100, 50, 2
    c.evaluation.place = 'fixed'  # an MLP does not see the same thing at two places
    c.places.fixed.brightness = 0.2
    c.positions.update({'arm': 'mlp', 'sizes': (4,), 'images': 30})
    c.placements.size, c.placements.test, c.placements.arms = 4, 50, ('fixed', 'affine')
    mlp = lambda width: {'model': {'name': 'mlp', 'hidden': (width,), 'dtype': 'float32'}}
    victims = {'mlp': mlp(64), 'wide': mlp(128)}
    arms = {
      'mlp': arm(('mlp',), (2, 4), 'fixed'),
      'mlp_circle': arm(('mlp',), (4,), 'fixed', shape='circle'),
      'both': arm(('mlp', 'wide'), (4,), 'fixed'),
      'longer': arm(('mlp',), (4,), 'fixed', targets=(0, 3), steps=120),
      'disguised': arm(('mlp',), (4,), 'fixed', disguise={'of': 6, 'eps': 0.3}),
    }
    trained_at = {name: arm(('mlp',), (4,), name, targets=(0, 3)) for name in c.placements.arms}
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'cpu' or 'smoke'.")
  c.victims, c.victim = tuple(victims), ConfigDict(victims, convert_dict=True)
  c.arms = tuple(arms)  # which to compare on every victim, in this order
  c.arm = ConfigDict(arms | {f'at_{name}': a for name, a in trained_at.items()}, convert_dict=True)
  return c
