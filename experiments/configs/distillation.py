"""Knowledge distillation: what do soft targets teach that labels do not, and why?

Papers: Hinton et al. 2015 (arXiv 1503.02531), Yuan et al. 2020 (arXiv 1909.11723), and as arms of
the comparison Romero et al. 2015 (FitNets), Zagoruyko and Komodakis 2017 (attention transfer), Zhao
et al. 2022 (DKD), Furlanello et al. 2018 (born again, weighted labels), Pereyra et al. 2017 (a
penalty on confidence), Moon et al. 2020 (a loss of the order of confidences). Claims: a small
network learns more from a large one's soft targets than from labels; the smaller it is the more the
temperature matters; it recognises a digit that it never saw, once a bias is corrected; a weaker or
hardly trained teacher helps as well; a distilled network knows better which of its answers are
wrong (Galil et al. 2023, arXiv 2302.11874), for reasons that the arms h1 to h7 take apart.

  python experiments/distillation.py                                       # the papers' scale
  python experiments/distillation.py --config=experiments/configs/distillation.py:cpu
  python experiments/distillation.py --config=experiments/configs/distillation.py:smoke

Two parts, either may be left out (`--config.parts=mnist,`):
  mnist  Hinton et al., section 3: 784-1200-1200-10 with dropout, max norm and shifted images
         teaches networks of two layers of 800, 300 and 30 units; temperatures, omitted digits. The
         paper gives no optimizer, batch or epochs; the rates of dropout and the largest squared
         length of a unit's weights, 15, are those of Hinton et al. 2012.
  cifar  two networks that teach each other. Roles: both directions, hardly trained teachers,
         hints, attention maps, DKD, and controls. Confidence: who knows its mistakes, and why.
         Without the rotations of Yuan et al. The loss is (1 - alpha) CE + alpha T^2 KL, averaged
         over the batch: their code also divides KL by the number of classes (see
         `jaxdl.losses.distillation`), so that the same alpha weighs more here.

Variants
  (none)  the papers' scale: 5 seeds of MNIST; ResNet-34 and ResNet-50 on CIFAR-10, 200 epochs, 3
          seeds: a GPU. Expected on MNIST: 67 test errors of the teacher, 146 of 800 units on
          labels, 74 distilled; without threes 206, of which 133 of the 1010 threes, 109 and 14
          with the bias. On CIFAR-10: gains of 0.2 to 0.6 points.
  confidence  the arms h1 to h7 alone: ResNet-110 teaches ResNet-20 on CIFAR-100, whose many
          mistakes tell two orders apart, 200 epochs, 3 seeds: a GPU.
  cpu     real MNIST, few epochs, networks of 300 units for the omitted digits, and real CIFAR-10,
          1,500 images of 16 x 16 pixels without crop and flip, ResNet-8 and the same at half its
          width, 20 epochs, 3 seeds; an hour for two of them, with much other work. So few images
          are learnt by heart, which leaves a teacher something to add (37.5 to 42.5 %, its own
          41.5), and its logits are computed once.
  smoke   under a minute, embedded digits.
"""

from ml_collections import ConfigDict

SGD = {'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True, 'weight_decay': 5e-4}
NONE = {
  'student': 'small',  # which network
  'teacher': None,  # the arm whose network teaches
  'alpha': 0.0, 'temperature': 1.0,
  'loss': 'kd',  # or 'dkd'; 'weighted': labels, weighted by the teacher
  'targets': 'teacher',  # 'permuted', 'confidence' and 'class_means' are controls
  'below': 1.0,  # the teacher speaks where the student gives the label less than this
  'ensemble': False,  # whether the teachers of all seeds in `members` teach together
  'calibrated': False,  # whether the teacher's logits get a temperature fitted on validation images
  'smoothing': 0.0, 'penalty': 0.0,  # of the labels; weight of the entropy
  'ranking': 0.0,  # weight of the loss of the order of confidences
  'hint': 0.0, 'attention': 0.0,  # weights of the losses on features
  'epochs': 1.0,  # times those of the others
}
# Yuan et al. take alpha .6 and T 20; T 4 and alpha .9 are what most papers take. DKD: half of its
# sum with the cross-entropy. Hint and attention stand beside plain labels. Attention has the weight
# of its published code, beta / 2 = 500; a hint a tenth of the 100 of RepDistiller, which diverged
# in the first steps of the cpu variant.
KD = {'teacher': 'big', 'alpha': 0.9, 'temperature': 4.0}
ARMS = {
  'small': {},
  'big': {'student': 'big'},
  'big_brief': {'student': 'big', 'epochs': 0.005},
  'small_brief': {'epochs': 0.005},
  'small_smooth': {'smoothing': 0.1},
  'big_smooth': {'student': 'big', 'smoothing': 0.1},
  'kd_T4': KD,
  'kd_T20': {**KD, 'alpha': 0.6, 'temperature': 20.0},
  'dkd': {**KD, 'alpha': 0.5, 'loss': 'dkd'},
  'fitnet': {'teacher': 'big', 'hint': 10.0},
  'attention': {'teacher': 'big', 'attention': 500.0},
  'permuted': {**KD, 'targets': 'permuted'},
  'confidence': {**KD, 'targets': 'confidence'},
  'dekd': {'teacher': 'big_brief', 'alpha': 0.6, 'temperature': 20.0},
  'rekd_T4': {**KD, 'student': 'big', 'teacher': 'small'},
  'rekd_T20': {'student': 'big', 'teacher': 'small', 'alpha': 0.6, 'temperature': 20.0},
  'big_dekd': {'student': 'big', 'teacher': 'small_brief', 'alpha': 0.6, 'temperature': 20.0},
  # Why does it help? What each arm keeps of the teacher, and what of it is enough.
  'kd_T1': {**KD, 'temperature': 1.0},
  'kd_T2': {**KD, 'temperature': 2.0},
  'kd_T8': {**KD, 'temperature': 8.0},
  'penalty': {'penalty': 0.1},  # h1: softness alone
  'class_means': {**KD, 'targets': 'class_means'},  # h3: similar classes, not the image
  'weighted': {'teacher': 'big', 'alpha': 1.0, 'loss': 'weighted'},  # h4: which images are hard
  'small_half': {'epochs': 0.5},  # h5: other accuracies
  'kd_half': {**KD, 'epochs': 0.5},
  'kd_smooth': {**KD, 'teacher': 'big_smooth'},  # h6: a teacher of worse order
  'kd_ensemble': {**KD, 'ensemble': True},  # h7
  'born1': {**KD, 'teacher': 'small'},
  'born2': {**KD, 'teacher': 'born1'},
  'born3': {**KD, 'teacher': 'born2'},
  'calibrated': {**KD, 'calibrated': True},
  'ranking': {'ranking': 1.0},
  'kd_ranking': {**KD, 'ranking': 1.0},
  'unsure': {**KD, 'below': 0.5},
}
ROLES = tuple(ARMS)[:17]
CONFIDENCE = ('small', 'big', 'small_smooth', 'big_smooth', 'kd_T4', 'permuted', 'confidence',
              *tuple(ARMS)[17:])


def get_config(variant=''):
  c = ConfigDict()
  c.parts = ('mnist', 'cifar')
  c.mnist = ConfigDict({
    'seeds': (0, 1, 2, 3, 4),
    'teacher': {
      'data': {'name': 'mnist', 'folder': '', 'per_class': 0, 'validation': 5_000, 'test': 0},
      'model': {
        'name': 'mlp', 'hidden': (1200, 1200), 'dropout': 0.5, 'input_dropout': 0.2,
        'dtype': 'float32',
      },
      'augment': {'pad': 2, 'mode': 'constant', 'flip': False},
      'epochs': 200.0, 'batch_size': 128,
      'optimizer': {
        'name': 'adam', 'lr': 1e-3, 'max_norm': 15**0.5, 'schedule': {'name': 'cosine'},
      },
      'log': 100, 'evaluate': 2150, 'checkpoint': 2150,
    },
    'student': {  # what differs from the teacher
      'model': {'name': 'mlp', 'dtype': 'float32'},
      'augment': None,  # the cached soft targets are those of the images as they are
      'epochs': 100.0,
      'optimizer': {'name': 'adam', 'lr': 1e-3, 'schedule': {'name': 'cosine'}},
    },
    'longer': {},  # h<width> -> factor of the epochs of that width, with and without a teacher
    'headline': {'hidden': 800, 'temperature': 20.0, 'alpha': 0.9},
    'hidden': (30, 300, 800),
    'temperatures': (1.0, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0),
    'alphas': (1.0, 0.9),
    'omitted': {
      'hidden': 800, 'alpha': 1.0, 'temperature': 20.0,
      'digits': tuple(range(10)),
      'curve': 3, 'temperatures': (1.0, 2.0, 4.0, 8.0, 20.0, 40.0),  # of one digit
      'only': (7, 8),  # all that another transfer set holds
      'seeds': (0, 1, 2),
    },
  })
  c.cifar = ConfigDict({
    'seeds': (0, 1, 2),
    'train': {
      'data': {'name': 'cifar10', 'folder': '', 'per_class': 0, 'validation': 5_000, 'test': 0},
      'augment': {'pad': 4, 'mode': 'constant', 'flip': True},
      'epochs': 200.0, 'batch_size': 128,
      'optimizer': {
        **SGD,
        'schedule': {
          'name': 'steps', 'milestones': (0.3, 0.6, 0.8), 'factor': 0.2, 'warmup': 0.005,
        },
      },
      'log': 100, 'evaluate': 350, 'checkpoint': 350,
    },
    'networks': {
      'small': {'name': 'resnet34', 'dtype': 'bfloat16'},
      'big': {'name': 'resnet50', 'dtype': 'bfloat16'},
    },
    'shrink': 1,  # images are made smaller by this factor
    'hint': 'stage3', 'attention': ('stage1', 'stage2', 'stage3', 'stage4'),
    'members': (0, 1, 2, 3),  # seeds of the networks that teach as an ensemble
    'required': (0.9, 0.95, 0.98),  # selective accuracies
    'resamples': 1_000,  # of the bootstrap
    'arm': {name: {**NONE, **arm} for name, arm in ARMS.items()},
    'arms': ROLES,  # which to run, in this order: a teacher before those it teaches
  })
  if variant == 'confidence':
    _confidence(c)
  elif variant == 'cpu':
    _small(c)
  elif variant == 'smoke':
    _smoke(c)
  elif variant:
    raise ValueError(f"Unknown variant {variant!r}: choose '', 'confidence', 'cpu' or 'smoke'.")
  return c


def _confidence(c):
  p = c.cifar
  c.parts, p.arms = ('cifar',), CONFIDENCE
  p.train.data.name = 'cifar100'
  p.train.optimizer.schedule = {'name': 'cosine', 'warmup': 0.005}
  p.networks.small = {'name': 'resnet20', 'dtype': 'bfloat16'}
  p.networks.big = {'name': 'resnet110', 'dtype': 'bfloat16'}
  p.hint, p.attention = 'stage2', ('stage1', 'stage2', 'stage3')


def _small(c):
  m, p = c.mnist, c.cifar
  m.seeds = (0, 1)
  m.teacher.epochs, m.teacher.evaluate, m.teacher.checkpoint = 12.0, 430, 860
  m.teacher.model.update({'dropout': 0.3, 'input_dropout': 0.1})  # of so short a training
  m.student.epochs = 5.0
  m.longer.h30 = 3.0  # it costs next to nothing
  m.hidden, m.temperatures = (30, 300), (1.0, 2.5, 4.0, 8.0, 20.0)
  m.alphas = (1.0,)
  m.omitted.update({'hidden': 300, 'seeds': (0,)})
  p.train.data.update({'per_class': 150, 'validation': 1_000, 'test': 5_000})
  p.shrink, p.train.augment = 2, None
  p.train.epochs, p.train.batch_size = 20.0, 50
  p.train.optimizer.update({'lr': 0.05, 'schedule': {'name': 'cosine', 'warmup': 0.05}})
  p.train.log, p.train.evaluate, p.train.checkpoint = 30, 150, 300
  p.networks.small = {'name': 'resnet8', 'width': 0.5, 'dtype': 'float32'}
  p.networks.big = {'name': 'resnet8', 'dtype': 'float32'}
  p.hint, p.attention = 'stage2', ('stage1', 'stage2', 'stage3')
  p.required, p.resamples = (0.6, 0.7, 0.8, 0.9), 500
  p.arms = tuple(name for name in ARMS if name not in (
    'small_brief', 'big_dekd', 'rekd_T4', 'kd_T1', 'kd_T2', 'kd_T8', 'ranking'))
  p.arm.big_brief.epochs = 0.05


def _smoke(c):
  m, p = c.mnist, c.cifar
  digits = {'name': 'digits', 'folder': '', 'per_class': 60, 'validation': 200, 'test': 200}
  m.seeds = (0,)
  m.teacher.data = digits
  m.teacher.model.update({'hidden': (48, 48), 'dropout': 0.1, 'input_dropout': 0.0})
  m.teacher.augment.pad = 1
  m.teacher.epochs, m.teacher.batch_size, m.teacher.optimizer.lr = 8.0, 50, 0.1
  m.student.epochs, m.student.optimizer.lr = 5.0, 3e-3
  for key in ('log', 'evaluate', 'checkpoint'):
    m.teacher[key] = 20
  m.headline.update({'hidden': 32, 'temperature': 4.0, 'alpha': 1.0})
  m.hidden, m.temperatures, m.alphas = (32,), (4.0,), (1.0,)
  m.omitted.update({'hidden': 32, 'temperature': 4.0, 'digits': (3,), 'temperatures': (4.0,),
                    'seeds': (0,)})
  p.seeds = (0,)
  p.train.data = digits
  p.train.augment.update({'pad': 1, 'flip': False})
  p.train.epochs, p.train.batch_size = 4.0, 50
  p.train.optimizer.update({'lr': 0.05, 'schedule': {'name': 'cosine'}})
  for key in ('log', 'evaluate', 'checkpoint'):
    p.train[key] = 20
  p.networks.small = {'name': 'mlp', 'hidden': (24,), 'dtype': 'float32'}
  p.networks.big = {'name': 'mlp', 'hidden': (48,), 'dtype': 'float32'}
  p.hint = 'hidden1'
  p.arms = ('small', 'big', 'kd_T4', 'fitnet', 'kd_ensemble')
  p.members, p.required, p.resamples, p.arm.fitnet.hint = (0, 1), (0.9,), 20, 1.0
  p.arm.kd_ensemble.ranking = 0.1
