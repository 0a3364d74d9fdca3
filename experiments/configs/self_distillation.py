"""Self-distillation: can a network be its own teacher?

Papers: Zhang et al. 2019 (arXiv 1905.08094, Be Your Own Teacher: exits after each section learn
from the deepest one), Yuan et al. 2020 (arXiv 1909.11723, teacher-free: from the same network
trained before, or from a teacher written by hand), Szegedy et al. 2016 (arXiv 1512.00567, label
smoothing), Lee et al. 2015 (arXiv 1409.5185, deep supervision).
Claim: each beats the same network trained on the labels, without a larger teacher and without any
cost at test time; with exits, easy images can leave early.

  python experiments/self_distillation.py                                    # the papers' scale
  CONFIG=experiments/configs/self_distillation.py
  python experiments/self_distillation.py --config=$CONFIG:cpu
  python experiments/self_distillation.py --config.train.data.name=cifar100  # the papers' set

Variants
  (none)    ResNet-50 with a 3x3 stem, CIFAR-10 less 5,000 images for validation, 200 epochs, 3
            seeds; a GPU, days. Expected on CIFAR-100: +2.9 points for the deepest head of Be Your
            Own Teacher, +1.2 and +1.5 (ResNet-18) for the two teacher-free ones; on CIFAR-10 less.
  resnet18  the same with ResNet-18, for which most published numbers are.
  cpu       real CIFAR-10 on 2 cores: ResNet-8 (three sections), 1,200 images of 16 x 16 pixels
            without crop and flip, 40 epochs, 3 seeds; 35 minutes with much other work. So few
            images are learnt by heart, which leaves 60 points to arms that regularise: the network
            trained before gains 1.7, exits about 1; targets written by hand (label smoothing,
            tf_kd_reg) lose 1.5 to 2 in accuracy and are far better calibrated.
  smoke     a minute, embedded digits.

Weights. The code of Yuan et al. averages the divergence over the classes too. `weight` is what its
`multiplier` comes to on the 100 classes of CIFAR-100 in an average over the batch alone: 50 / 100
for ResNet-18 as its own teacher, 100 / 100 for the one written by hand; the same code weighs ten
times as much on CIFAR-10. Be Your Own Teacher gives no values: alpha and T are those of its
authors' code; the weight of the features is ours, for maps of 32,768 entries (ResNet-50).
"""

from ml_collections import ConfigDict


def arm(method, teacher=None, **options):
  return {'method': method, 'teacher': teacher, 'options': options}


OWN_TEACHER = {'alpha': 0.95, 'temperature': 6.0, 'weight': 0.5}


def get_config(variant=''):
  c = ConfigDict()
  c.seeds = (0, 1, 2)
  c.arm = ConfigDict({
    'baseline': arm('labels', smoothing=0.0),
    'label_smoothing': arm('labels', smoothing=0.1),
    'tf_kd_self': arm('network', 'baseline', shuffled=False, **OWN_TEACHER),
    # For short runs, whose teacher knows little: the labels keep half of the loss, not a twentieth.
    'tf_kd_mild': arm(
      'network', 'baseline', shuffled=False, alpha=0.5, temperature=2.0, weight=1.0
    ),
    'tf_kd_shuffled': arm('network', 'baseline', shuffled=True, **OWN_TEACHER),
    'tf_kd_reg': arm('virtual', alpha=0.1, temperature=20.0, correct=0.99, weight=1.0),
    'deep_supervision': arm('sections', alpha=0.0, temperature=3.0, feature=0.0, rescale=False),
    'byot_logits': arm('sections', alpha=0.3, temperature=3.0, feature=0.0, rescale=False),
    'byot': arm('sections', alpha=0.3, temperature=3.0, feature=1e-5, rescale=False),
  })
  c.arms = (
    'baseline', 'label_smoothing', 'tf_kd_self', 'tf_kd_shuffled', 'tf_kd_reg', 'deep_supervision',
    'byot_logits', 'byot',
  )
  c.shrink = 1  # images are made smaller by this factor
  c.train = ConfigDict({
    'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'validation': 5_000, 'test': 0},
    'model': {'name': 'resnet50', 'dtype': 'float32'},
    'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
    'epochs': 200.0, 'batch_size': 128,
    'optimizer': {
      'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 5e-4,
      'schedule': {
        'name': 'steps', 'milestones': (0.3, 0.6, 0.8), 'factor': 0.2, 'warmup': 0.005,
      },
    },
    'log': 100, 'evaluate': 352, 'checkpoint': 3_520,
  })
  c.bins = 15  # of the calibration error
  c.targets = 2_000  # training images whose soft targets are looked at
  c.thresholds = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.1)  # of leaving early
  if variant == 'resnet18':
    c.train.model.name = 'resnet18'
  elif variant == 'cpu':
    c.arms = (
      'baseline', 'label_smoothing', 'tf_kd_self', 'tf_kd_mild', 'tf_kd_shuffled', 'tf_kd_reg',
      'deep_supervision', 'byot_logits', 'byot',
    )
    c.shrink, c.arm.byot.options.feature = 2, 3e-4  # maps of 1,024 entries, of ResNet-50 32,768
    c.train.data.update({'per_class': 120, 'validation': 1_000, 'test': 5_000})
    c.train.model.name = 'resnet8'
    c.train.augment = None
    c.train.epochs, c.train.batch_size = 40.0, 50
    c.train.optimizer.schedule = {'name': 'cosine', 'warmup': 0.05}
    c.train.log, c.train.evaluate, c.train.checkpoint = 48, 192, 480
    c.targets = 1_000
  elif variant == 'smoke':
    c.seeds = (0,)
    c.arms = ('baseline', 'tf_kd_self', 'byot')
    c.train.data.update({'name': 'digits', 'per_class': 40, 'validation': 100, 'test': 200})
    c.train.model = {'name': 'resnet8', 'width': 0.25, 'dtype': 'float32'}
    c.train.augment = None
    c.train.epochs, c.train.batch_size = 3.0, 50
    c.train.optimizer.schedule = {'name': 'cosine', 'warmup': 0.1}
    c.train.log, c.train.evaluate, c.train.checkpoint = 6, 12, 12
    c.targets, c.thresholds = 100, (0.0, 0.5, 0.9, 1.1)
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'resnet18', 'cpu' or 'smoke'.")
  return c
