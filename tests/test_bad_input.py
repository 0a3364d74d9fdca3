"""Whatever a user gets wrong is one sentence with the remedy, before anything runs or is changed.

Every case is a real command line, run in one folder of healthy and of damaged things; the folder is
the same to the last byte afterwards.
"""

import functools
import glob
import hashlib
import json
import pathlib
import pickle
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
from command_line import ROOT, Preloaded, plain
from PIL import Image

from jaxdl.train.checkpoint import Checkpoints

CLASSIFY, NOISE = (str(ROOT / 'experiments' / f'{n}.py') for n in ('classify', 'noise_aware'))
CONFIGS = ROOT / 'experiments' / 'configs'
ABSENT = 'tpu' if glob.glob('/dev/nvidia*') else 'gpu'
SMALL = '''
import runpy

def get_config():
  c = runpy.run_path({config!r})['get_config']('smoke')
  c.train.data.update(name='digits', per_class=10, test=20)
  c.train.model = {{'name': 'mlp', 'hidden': (8,)}}
  c.train.augment = None
  c.train.epochs, c.train.evaluate = 1.0, 0
  return c
'''


def study(*arguments, file=CLASSIFY, variant='smoke'):
  """A command line; what it does not give is the smoke configuration and a new workdir."""
  given = {a.split('=')[0] for a in arguments}
  config = f'--config={CONFIGS / pathlib.Path(file).name}:{variant}'
  more = [config] * ('--config' not in given) + ['--workdir=new'] * ('--workdir' not in given)
  return [file, *more, *arguments]


def train(**values):
  return [f'--config.train.{key.replace("__", ".")}={value}' for key, value in values.items()]


def archive(name, *more):
  return study('--data_dir=archives', *train(data__name=name, data__per_class=0), *more)


def folder(name, *more):
  return study(*train(data__folder=name, batch_size=2), *more, variant='folder')


def sam(**options):
  return study(*train(optimizer__perturbation={'name': 'sam', 'rho': 0.1, **options}))


def data(*arguments):
  return ['-m', 'jaxdl.data', *arguments]


# name -> (command line, what the sentence says: the culprit and the remedy)
CONFIG = {
  'unknown key': (study('--config.trian.epochs=1'), ["'trian'", "Did you mean 'train'?"]),
  'unknown nested key': (study(*train(epoch=1)), ["'train.epoch'", "mean 'train.epochs'?"]),
  'unknown deep key': (study(*train(optimizer__lrr=1)), ["mean 'train.optimizer.lr'?"]),
  'key of a number': (study(*train(epochs__x=1)), ["'train.epochs' is 12.0, which has no 'x'"]),
  'key of nothing': (study(*train(optimizer__clip__x=1)), ["is None, which has no 'x'"]),
  'unknown variant': (study(variant='smok'), ["Unknown variant 'smok'", "'cpu', 'folder' or"]),
  'no config file': (study('--config=nowhere.py'), ["file 'nowhere.py'", '--config=FILE']),
  'empty config': (study('--config='), ["no config file ''", '--config=FILE']),
  'config is a folder': (study('--config=archives'), ["no config file 'archives'"]),
  'config with a syntax error': (study('--config=syntax.py'), ['syntax.py', 'line 2', 'correct']),
  'config that imports nothing': (study('--config=imports.py'), ["module named 'no_such_module'"]),
  'config that is no text': (study('--config=binary.py'), ['binary.py cannot be loaded']),
  'config without get_config': (study('--config=empty.py'), ['empty.py has no function get_conf']),
  'config that returns nothing': (study('--config=none.py'), ['return a ConfigDict, not None']),
  'config without variants': (study('--config=none.py:x'), ["has no variants; leave out ':x'"]),
  'config of another study': (study(f'--config={CONFIGS}/noise_aware.py:smoke'), ['lacks bins']),
  'config without a part': (study('--config.train={}'), ["train has no 'data'; give one"]),
  'text for a number': (study(*train(epochs='many')), ["'train.epochs' must be a num", "'many'"]),
  'fraction for a count': (study(*train(batch_size=1.5)), ["'train.batch_size' must be a whole"]),
  'None for a number': (study(*train(epochs=None)), ["'train.epochs' must be a number", "'None'"]),
  'text for a list': (study('--config.seeds=abc'), ['Each of seeds must be a whole', "'abc'"]),
  'text for a truth value': (study(*train(optimizer__nesterov='maybe')), ['nesterov', 'maybe']),
  'text for a mapping': (study(*train(optimizer__perturbation='sam')), ['mapping such', "'sam'"]),
  'number for a mapping': (study(*train(augment=5)), ["'train.augment' must be a mapping", "'5'"]),
  'text for a number not set': (study(*train(optimizer__clip='a')), ['optimizer.clip', 'a number']),
  'unknown flag': (study('--wrokdir=x'), ["'wrokdir'", 'Did you mean: workdir']),
  'stray argument': (study('stray'), ["argument 'stray'", '--name=value']),
  'flag without its value': ([CLASSIFY, '--workdir'], ['workdir']),
}
VALUES = {
  'no seeds': (study('--config.seeds=()'), ['seeds must be a list of at least one number']),
  'seed twice': (study('--config.seeds=(1,0,1)'), ['seeds has 1 more than once; give it once']),
  'negative seed': (study('--config.seeds=(-1,)'), ['Each of seeds', 'at least 0', 'got -1']),
  'fractional seed': (study('--config.seeds=(0.5,)'), ['Each of seeds', 'whole number', '0.5']),
  'no epochs': (study(*train(epochs=0)), ['epochs must be a number, above 0, got 0.0']),
  'negative epochs': (study(*train(epochs=-1)), ['epochs', 'above 0', 'got -1.0']),
  'NaN epochs': (study(*train(epochs='nan')), ['epochs', 'above 0', 'got nan']),
  'endless epochs': (study(*train(epochs='inf')), ['epochs', 'got inf']),
  'no batch': (study(*train(batch_size=0)), ['batch_size', 'at least 1, got 0']),
  'negative batch': (study(*train(batch_size=-4)), ['batch_size', 'at least 1, got -4']),
  'batch larger than the set': (
    study(*train(batch_size=999, data__name='digits')), ['is 999', '600 training images; take']),
  'negative learning rate': (study(*train(optimizer__lr=-1)), ['lr must be', 'at least 0']),
  'NaN learning rate': (study(*train(optimizer__lr='nan')), ['lr must be', 'got nan']),
  'text for a learning rate': (study(*train(optimizer__lr='a')), ["'train.optimizer.lr'", "'a'"]),
  'momentum of 1': (study(*train(optimizer__momentum=1)), ['momentum', 'below 1, got 1.0']),
  'negative momentum': (study(*train(optimizer__momentum=-0.9)), ['momentum', 'at least 0']),
  'negative decay': (study(*train(optimizer__weight_decay=-1)), ['weight_decay', 'at least 0']),
  'negative clip': (study(*train(optimizer__clip=-1)), ['clip must be a number, above 0']),
  'average that never moves': (study(*train(optimizer__ema=1)), ['ema', 'below 1']),
  'unknown optimizer': (study(*train(optimizer__name='sdg')), ["'sdg'", "mean 'sgd'?"]),
  'option of another optimizer': (
    study(*train(optimizer__name='adam')), ["key of optimizer adam 'momentum'", 'b1, b2']),
  'unknown schedule': (study(*train(optimizer__schedule__name='cosin')), ["mean 'cosine'?"]),
  'milestone past the end': (
    study(*train(optimizer__schedule__milestones='(0.5,1.5)')), ['fractions of the run', '1.5']),
  'milestones are text': (
    study(*train(optimizer__schedule__milestones='x')), ['milestones must be a number', "'x'"]),
  'unknown perturbation': (sam(name='samm'), ["'samm'", "mean 'sam'?"]),
  'unknown perturbation option': (sam(step=2), ["perturbation sam 'step'", "mean 'steps'?"]),
  'perturbation without a size': (sam(rho=None), ["'sam' needs 'rho'"]),
  'negative radius': (sam(rho=-1), ['rho must be a number, at least 0, got -1']),
  'no ascent steps': (sam(steps=0), ['steps must be a whole number, at least 1, got 0']),
  'unknown norm': (sam(norm='l3'), ["Unknown norm 'l3'", 'l2, linf']),
  'batch not divided': (sam(microbatches=3), ['batch_size is 50', '3 microbatches']),
  'unknown network': (study(*train(model__name='resnet9')), ["'resnet9'", "mean 'resnet8'?"]),
  'option of another network': (study(*train(model__name='mlp')), ["'mlp' has no option 'width'"]),
  'unknown network option': (
    study('--config.train.model={"name": "resnet8", "depht": 9}'), ["has no option 'depht'"]),
  'option that the name fixes': (
    study('--config.train.model={"name": "wrn10_1", "depth": 16}'), ["no option 'depth'; remove"]),
  'network without channels': (study(*train(model__width=0)), ["'width'", 'at least 0.0625']),
  'unknown precision': (study(*train(model__dtype='float8')), ["'float8'", 'float32, bfloat16']),
  'negative padding': (study(*train(augment__pad=-1)), ['augment.pad', 'at least 0, got -1']),
  'padding too wide': (
    study(*train(augment__mode='reflect', augment__pad=8, data__name='digits')),
    ['augment.pad is 8', '8 x 8 pixels', 'up to 7']),
  'unknown padding': (study(*train(augment__mode='wrap')), ["'wrap'", "'reflect'"]),
  'negative period': (study(*train(checkpoint=-1)), ['checkpoint', 'at least 0, got -1']),
  'no bins': (study('--config.bins=0'), ['bins must be a whole number, at least 1']),
  'unknown arm': (study('--config.arms=("sgd","sam")', file=NOISE), ["arms 'sam'", "'asam'?"]),
  'arm that cannot be': (
    study('--config.arm.asam.perturbation.rho=-1.0', file=NOISE), ['rho must be', 'got -1.0']),
  'bits that cannot be': (
    study('--config.analysis.bits=(8,1)', file=NOISE), ['analysis.bits', 'at least 2', 'got 1']),
  'too few iterations': (
    study('--config.analysis.lanczos=1', file=NOISE), ['analysis.lanczos', 'at least 2']),
}
DATA = {
  'missing set': (
    archive('cifar10'), ["no set 'cifar10'", 'python -m jaxdl.data prepare cifar10']),
  'misspelt set': (archive('god'), ["no set 'god' (did you mean 'good'?)", 'prepare god']),
  'no set at all': (study(*train(data__name='')), ['Which set?', 'data.name', 'data.folder']),
  'name that is a path': (archive('../good'), ["'../good' is not a set's name; use letters"]),
  'no data folder': (study('--data_dir=nowhere'), ['no folder nowhere (--data_dir)', 'give']),
  'data folder is a file': (study('--data_dir=empty.py'), ['no folder empty.py (--data_dir)']),
  'empty data folder': (study('--data_dir='), ['--data_dir is empty', 'leave it out']),
  'truncated archive': (archive('cut'), ['cut.npz is not a readable', 'prepare cut --overwrite']),
  'garbled archive': (archive('garbled'), ['garbled.npz is not a readable', 'make it again']),
  'archive that is text': (archive('text'), ['text.npz is not a readable', 'make it again']),
  'archive that is a folder': (archive('folder'), ['folder.npz is not a readable']),
  'archive of other things': (archive('other'), ["neither 'train_images' nor 'test_images'"]),
  'archive without labels': (archive('bare'), ["'train_images' but no 'train_labels'"]),
  'garbage for a header': (archive('header'), ['header.npz is not a readable', 'make it again']),
  'pickled labels': (archive('pickled'), ['train_labels.npy holds Python objects', 'never']),
  'pickled members': (archive('pickle'), ["neither 'train_images' nor 'test_images'"]),
  'zip bomb': (archive('bomb'), ['1,099.5 GB of memory', 'GB are free', 'smaller set']),
  'array larger than its member': (archive('liar'), ['says it holds 3,000,000,000,000 bytes']),
  'member in another folder': (archive('climber'), ["member '../train_images.npy' is a path"]),
  'member at the root': (archive('root'), ["member '/tmp/x.npy' is a path"]),
  'images without channels': (archive('flat'), ['(20, 8, 8)', 'images[..., None]']),
  'channels first': (archive('first'), ['(20, 3, 8, 8)', 'transpose(0, 2, 3, 1)']),
  'more labels than images': (archive('longer'), ['has 20 images but 21 labels']),
  'halves of different sizes': (archive('sizes'), ['(8, 8, 3)', '(9, 9, 3)', 'must agree']),
  'images in [0, 1]': (archive('unit'), ['float64', '(255 * images).round()']),
  'images normalised': (archive('normal'), ['must be uint8', 'these lie in -2..2']),
  'labels without names': (archive('unnamed'), ['from 0 to 1 but 1 classes', 'lie in 0..0']),
  'negative labels': (archive('negative'), ['labels from -7 to 1', 'must lie in 0..1']),
  'huge labels': (archive('huge'), ['to 4294967296; number the classes 0, 1, 2']),
  'fractional labels': (archive('fraction'), ['labels of type float64', 'must be integers']),
  'unlabelled images': (archive('unlabelled'), ['without a label (-1); leave them out']),
  'no training images': (archive('untrained'), ["'untrained' has no training images"]),
  'no test images': (archive('untested'), ["'untested' has no test images", 'make the set again']),
  'everything held out': (
    study(*train(data__name='digits', data__validation=5000)), ['hold out 5000', '0..1437']),
  'more than there are': (
    study(*train(data__name='digits', data__per_class=5000)), ['5000 asked for; take at most']),
  'negative subset': (study(*train(data__test=-1)), ['data.test', 'at least 0, got -1']),
  'no such folder': (folder('nowhere'), ['no folder nowhere; give the folder']),
  'folder is a file': (folder('empty.py'), ['no folder empty.py']),
  'folder in a circle': (folder('circle'), ['no folder circle']),
  'folder without images': (folder('void'), ['void holds no images; expected void/<class>/']),
  'class without images': (folder('gap'), ['gap/none holds no images; remove it or fill it']),
  'text with the name of an image': (folder('text'), ['text/a/x.jpg cannot be read', 'remove it']),
  'truncated image': (folder('cut'), ['cut/a/x.png cannot be read', 'truncated', 'repair']),
  'image bomb': (folder('bomb'), ['bomb/a/x.png cannot be read', 'decompression bomb']),
  'a single class': (folder('single'), ["single class 'a'", 'at least two']),
  'too few images to test': (folder('few'), ["'few' has no test images", 'a tenth']),
  'images of no size': (folder('photos', *train(data__size=-1)), ['data.size', 'at least 0']),
  'prepare nothing': (data('prepare'), ['arguments are required: NAME', '--help']),
  'unknown command': (data('prepaer', 'x'), ["invalid choice: 'prepaer'", '--help']),
  'prepare what nobody has': (data('prepare', 'nothing'), ["Cannot prepare 'nothing'", '--folder']),
  'prepare what is there': (data('prepare', 'digits'), ["'digits' is embedded", 'another name']),
  'prepare once more': (
    data('prepare', 'good', '--folder', 'photos', '--data_dir', 'archives'),
    ['good.npz exists; give --overwrite']),
  'prepare an empty folder': (
    data('prepare', 'x', '--folder', 'void', '--data_dir', 'archives'), ['void holds no images']),
  'prepare an unreadable image': (
    data('prepare', 'x', '--folder', 'cut', '--data_dir', 'archives'), ['cut/a/x.png cannot be']),
  'prepare below a file': (
    data('prepare', 'x', '--folder', 'photos', '--data_dir', 'empty.py/x'),
    ['empty.py is a file; give another']),
  'prepare without a size': (
    data('prepare', 'x', '--folder', 'photos', '--size', '0', '--data_dir', 'archives'),
    ['image size in pixels', 'at least 1, got 0']),
  'prepare a path': (
    data('prepare', '../x', '--folder', 'photos', '--data_dir', 'archives'), ["'../x' is not"]),
  'list a file': (data('list', '--data_dir', 'empty.py'), ['empty.py is a file; give another']),
  'list nothing': (data('list', '--data_dir', 'nowhere'), ['no folder nowhere; prepare makes it']),
}
WORKDIR = {
  'workdir is a file': (
    study('--workdir=empty.py', '--config=small.py'), ['empty.py cannot be written', '--workdir=']),
  'workdir below a file': (
    study('--workdir=empty.py/x', '--config=small.py'), ['empty.py/x cannot be written', 'choose']),
  'workdir that cannot be made': (
    study('--workdir=/proc/x', '--config=small.py'), ['/proc/x cannot be written', 'choose']),
  'no workdir': (study('--workdir='), ['--workdir is empty', 'leave it out']),
  'workdir in the photos': (
    folder('photos', '--workdir=photos/run'), ['photos/run', 'within each other', 'another --wo']),
  'photos in the workdir': (
    folder('photos', '--workdir=.'), ['data folder photos', 'within each other', 'another --work']),
  'workdir of the archives': (archive('good', '--workdir=archives'), ['within each other']),
  'archives in the workdir': (archive('good', '--workdir=.'), ['within each other']),
  'workdir of another configuration': (
    study('--workdir=done', '--config=small.py', *train(optimizer__lr=0.5)),
    ['lr was 0.1 and is now 0.5', 'another --workdir']),
  'workdir of another study': (
    study('--workdir=done', file=NOISE), ['holds a run of classify, not one of noise_aware']),
  'workdir of another program': (
    study('--workdir=project', '--config=small.py'), ['project holds other files', '--workdir=']),
  'damaged record of a stage': (
    study('--workdir=torn', '--config=small.py'), ['seed-0/stage.json is damaged', 'delete torn/']),
  'damaged result of a stage': (
    study('--workdir=halved', '--config=small.py'), ['seed-0/DONE is damaged', 'delete halved/se']),
  'checkpoint of another model': (
    study('--workdir=swapped', '--config=small.py'),
    ['belongs to another model', 'state/params/head/bias is not in', 'another --workdir']),
  'no such device': (study(f'--platform={ABSENT}'), [f'finds no {ABSENT} here', '--platform=cpu']),
  'unknown platform': (study('--platform=gpuu'), ["'gpuu'", 'cpu, gpu, tpu']),
  'negative devices': (study('--devices=-1'), ['--devices', 'at least 1', '-1']),
  'text for devices': (study('--devices=all'), ['devices', 'all']),
  'more devices than there are': (
    study('--devices=3', '--config=small.py'), ['--devices=3', 'has only 2'],
    {'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}),
  'batch that the devices do not divide': (
    study('--devices=2', '--config=small.py', *train(batch_size=25)),
    ['25 does not divide over 2 devices', '24 or 26', '--devices']),
  'unknown mode': (study('--mode=fast'), ["'fast'", 'jit, pmap, shard_map']),
}
TRAINING, EVALUATION, PATCH, FEATURES, SYNTHESIS = (
  functools.partial(study, file=str(ROOT / 'experiments' / f'{name}.py'))
  for name in ('adversarial_training', 'robust_eval', 'adversarial_patch', 'robust_features',
               'robust_synthesis')
)
ATTACKS = {
  'negative eps': (TRAINING('--config.eps=-0.1'), ['eps must be', 'at least 0', 'got -0.1']),
  'negative eps of training': (
    TRAINING('--config.arm.pgd.adversary.eps=-0.1'), ['adversary.eps', 'at least 0']),
  'unknown norm of a ball': (TRAINING('--config.norm=l3'), ["norm 'l3'", 'linf, l2, l1']),
  'unknown adversary': (
    TRAINING('--config.arm.pgd.adversary.name=pdg'), ["adversary 'pdg'", "'pgd'?"]),
  'no steps': (TRAINING('--config.evaluation.steps=0'), ['steps', 'at least 1', 'got 0']),
  'negative radius in a list': (
    TRAINING('--config.evaluation.epsilons=(0.0,-1.0)'), ['evaluation.epsilons', 'got -1.0']),
  'negative probe': (TRAINING('--config.probe=-5'), ['adversary.probe', 'got -5']),
  'adversary without a radius': (
    study(*train(adversary={'name': 'pgd', 'steps': 3})), ["'pgd' needs 'eps'"]),
  'no classifier to evaluate': (
    EVALUATION('--config.checkpoint=nowhere'), ['nowhere is not the folder of a trained', 'DONE']),
  'evaluation of no images': (
    EVALUATION('--config.attacks.images=0'), ['attacks.images', 'at least 1']),
  'eps of zero': (EVALUATION('--config.eps=0.0'), ['eps must be', 'above 0']),
  'unknown version': (
    EVALUATION('--config.autoattack.version=standart'), ["version 'standart'", "'standard'?"]),
  'patch larger than the image': (
    PATCH('--config.arm.both.sizes=(9,)'), ['9', '8']),
  'wrong target class': (
    PATCH('--config.arm.at_fixed.targets=(0,10)'), ['at_fixed.targets', 'at most 9', '10']),
  'unknown victim': (PATCH('--config.arm.mlp.sources=("mpl",)'), ["'mpl'", "'mlp'?"]),
  'set of a negative radius': (
    FEATURES('--config.set.rand.eps=-0.5'), ['set.rand.eps', 'at least 0']),
  'set from nothing': (
    FEATURES('--config.set.robust_image.start=nothing'), ["start 'nothing'", 'image, noise']),
  'network with a negative radius': (
    SYNTHESIS('--config.eps.robust_0p5=-1.0'), ['eps.robust_0p5', 'at least 0']),
}
TICKET = functools.partial(study, file=str(ROOT / 'experiments' / 'lottery_ticket.py'))
TICKETS = {
  'nothing left': (
    TICKET('--config.trunk.rewind.rate=1.0'), ['trunk.rewind.rate', 'below 1, got 1.0']),
  'nothing pruned': (
    TICKET('--config.trunk.rewind.rate=0.0'), ['trunk.rewind.rate', 'above 0', 'got 0.0']),
  'rewind past the end': (
    TICKET('--config.trunk.rewind.k=60'), ['k, the step that', 'rewinds to', 'below 60, got 60']),
  'unknown arm of a ticket': (
    TICKET('--config.trunk.rewind.arms=("renit",)'), ["arm of trunk.rewind 'renit'", "'reinit'?"]),
  'unknown mask criterion': (
    TICKET('--config.criteria.names=("magnitude",)'), ["criterion 'magnitude'", 'large_final']),
  'level that is not reached': (
    TICKET('--config.criteria.at=(3,)'), ['Each of criteria.at', 'at most 2, got 3']),
  'unknown scope': (TICKET('--config.trunk.layer.scope=layers'), ["'layers'", "mean 'layer'?"]),
  'rate of a layer that is not there': (
    TICKET('--config.trunk.layer.rates={"haed": 0.5}'), ["trunk.layer.rates 'haed'", "'head'?"]),
  'unknown layer to keep': (
    TICKET('--config.ignore=("haed",)'), ["leave unpruned 'haed'", "mean 'head'?"]),
  'fine-tuning at a rate of 0': (
    TICKET('--config.train.optimizer.schedule.name=cosine',
           '--config.train.optimizer.schedule.milestones=()'), ['ends at 0', "'finetune'"]),
  'search of many rounds': (
    TICKET('--config.trunk.rewind.search=pgd'), ['trunk.rewind', 'one round', 'levels to 1']),
}
DISTILLATION, SELF = (
  functools.partial(study, file=str(ROOT / 'experiments' / f'{name}.py'))
  for name in ('distillation', 'self_distillation')
)
TEACHING = {
  'temperature of zero': (
    DISTILLATION('--config.cifar.arm.kd_T4.temperature=0.0'), ['kd_T4.temperature', 'above 0']),
  'share of a teacher above 1': (
    DISTILLATION('--config.cifar.arm.kd_T4.alpha=1.5'), ['kd_T4.alpha', 'at most 1, got 1.5']),
  'unknown arm of distillation': (
    DISTILLATION('--config.cifar.arms=("smal",)'), ["cifar.arms 'smal'", "'small'?"]),
  'student before its teacher': (
    DISTILLATION('--config.cifar.arms=("small","kd_T4","big")'), ["'big': put that before it"]),
  'no such digit': (
    DISTILLATION('--config.mnist.omitted.digits=(10,)'), ['omitted.digits', 'at most 9, got 10']),
  'temperature of self-distillation below zero': (
    SELF('--config.arm.byot.options.temperature=-1.0'), ['temperature', 'above 0, got -1.0']),
  'share of oneself above 1': (
    SELF('--config.arm.tf_kd_self.options.alpha=1.5'), ['alpha', 'at most 1, got 1.5']),
  'unknown arm of self-distillation': (
    SELF('--config.arms=("baseline","boyt")'), ["arms 'boyt'", "'byot'?"]),
  'teacher that is not trained': (
    SELF('--config.arms=("tf_kd_self",)'), ["learns from 'baseline'", 'add it to arms']),
  'exits of a network without stages': (
    SELF('--config.train.model={"name": "mlp", "hidden": (8,), "dtype": "float32"}'),
    ['at least two stages, which MLP does not have', 'choose a ResNet']),
  'exits that are no truth value': (
    study('--config.train.model={"name": "resnet8", "exits": 2}'), ['exits', 'True or False']),
}
SPARSE = functools.partial(
  study, file=str(ROOT / 'experiments' / 'continuous_sparsification.py'))
SEARCHES = {
  'search without a rise of temperature': (
    SPARSE('--config.search.beta_end=1.0'), ['beta_end', 'above 1', 'got 1.0']),
  'negative penalty': (SPARSE('--config.search.penalty=-1e-8'), ['search.penalty', 'at least 0']),
  'no rounds': (SPARSE('--config.search.rounds=0'), ['search.rounds', 'at least 1', 'got 0']),
  'scores that do not move': (SPARSE('--config.search.rate=0.0'), ['rate', 'above 0', 'got 0.0']),
  'half an epoch of a search': (
    SPARSE('--config.train.epochs=2.5'), ['train.epochs', 'whole number', '2.5']),
  'search rewound past its end': (
    SPARSE('--config.search.rewind=6'), ['search.rewind', 'at most 5', 'got 6']),
  'decay of the scores': (
    SPARSE('--config.train.optimizer.decay=all', '--config.train.optimizer.weight_decay=0.1'),
    ["optimizer.decay to 'kernels'"]),
  'unknown search': (SPARSE('--config.starts=("zeor",)'), ["starts 'zeor'", "mean 'zero'?"]),
  'unknown layer without a mask': (
    SPARSE('--config.search.ignore=("haed",)'), ["leave unpruned 'haed'", "mean 'head'?"]),
  'density of nothing': (
    SPARSE('--config.untrained.densities=(0.5,0.0)'), ['untrained.densities', 'got 0.0']),
  'density above one': (
    SPARSE('--config.untrained.densities=(1.5,)'), ['untrained.densities', 'at most 1']),
  'no draws': (SPARSE('--config.untrained.draws=0'), ['untrained.draws', 'at least 1']),
}
LQ = functools.partial(study, file=str(ROOT / 'experiments' / 'lq_nets.py'))
QUANTIZATION = {
  'no bits': (
    LQ('--config.arm.w2a2.quantization.weights=0'), ['weights of quantization', 'got 0']),
  'bits of no byte': (
    LQ('--config.arm.w2a2.quantization.activations=9'), ['activations of quant', 'at most 8']),
  'unknown quantizer': (
    LQ('--config.arm.w2a2.quantization.name=dorefea'), ["'dorefea'", "mean 'dorefa'?"]),
  'one bit of LSQ': (
    LQ('--config.arms=("lsq_w2",)', '--config.arm.lsq_w2.quantization.weights=1'),
    ["'lsq' needs at least 2 bits"]),
  'nothing to quantise': (
    LQ('--config.train.model={"name": "mlp", "hidden": (8,)}'), ["'mlp' stays in float"]),
  'threshold that grows': (
    LQ('--config.sparsity.lams.one=(-0.1,)'), ['sparsity.lams.one', 'at least 0']),
  'variant of no network': (
    LQ('--config.sparsity.variant_lams=(0.2,)'), ['variant_lams has 0.2', 'add it there']),
  'threshold that ends too soon': (
    LQ('--config.sparsity.freeze=0.1'), ['start, full and freeze', 'one after the other']),
  'bits to fit': (LQ('--config.survey.fit_bits=(2,0)'), ['survey.fit_bits', 'got 0']),
}
AUGMENT = lambda options, *more: study(f'--config.train.augment={options}', *more)
AUGMENTATION = {
  'no hole': (
    AUGMENT({'cutout': {'length': 0}}), ['augment.cutout', 'length', 'at least 1, got 0']),
  'hole without a length': (AUGMENT({'cutout': {}}), ["augment.cutout lacks 'length'"]),
  'misspelt augmentation': (
    AUGMENT({'randaugmnt': {'layers': 2}}), ["'randaugmnt'", "mean 'randaugment'?"]),
  'misspelt option of an augmentation': (
    AUGMENT({'randaugment': {'layer': 2}}), ['augment.randaugment', "mean 'layers'?"]),
  'magnitude on another scale': (
    AUGMENT({'randaugment': {'magnitude': 30}}), ['augment.randaugment', 'at most 10.0, got 30']),
  'negative mixup': (AUGMENT({'mixup': {'alpha': -1}}), ['augment.mixup', 'at least 0, got -1']),
  'CutMix of nothing': (AUGMENT({'cutmix': {'alpha': 0}}), ['augment.cutmix', 'above 0, got 0']),
  'unknown box of CutMix': (
    AUGMENT({'cutmix': {'alpha': 1.0, 'box': 'pixel'}}), ["'pixel'", 'image, batch']),
  'chains too long': (AUGMENT({'augmix': {'depth': 4}}), ['augment.augmix', 'at most 3, got 4']),
  'number for an augmentation': (AUGMENT({'cutout': 16}), ['augment.cutout must be a mapping']),
}
ROTNET = functools.partial(study, file=str(ROOT / 'experiments' / 'rotnet.py'))
ROTATIONS = {
  'a single rotation': (
    ROTNET('--config.encoder.rotnet.angles=(0,)'), ['at least two different angles', '(0,)']),
  'half a degree': (ROTNET('--config.encoder.rotnet.angles=(0,0.5)'), ['angles', 'whole', '0.5']),
  'images that are not square': (
    ROTNET('--data_dir=archives', '--config.labelled=1.0', '--config.few.amounts=(1.0,)',
           *train(data__name='wide', data__per_class=0, data__validation=4, batch_size=8)),
    ['Only square images', '6 x 8 pixels', 'one side']),
  'images that do not divide': (
    ROTNET('--config.train.data.shrink=3'), ['8 x 8 pixels', '3 times smaller', 'divides both']),
  'more labels than there are': (
    ROTNET('--config.few.amounts=(10,41)'), ['40 examples, fewer than the 41', 'at most 40']),
  'no labels': (ROTNET('--config.few.amounts=(0.0,)'), ['amount of labels', 'above 0, got 0.0']),
  'one and a half of the labels': (
    ROTNET('--config.few.amounts=(1.5,)'), ['fraction up to 1.0', 'got 1.5']),
  'more than all labels': (
    ROTNET('--config.labelled=1.5'), ['fraction up to 1.0', 'got 1.5']),
  'no neighbours': (ROTNET('--config.probe.k=0'), ['k of the nearest', 'at least 1, got 0']),
  'block that does not exist': (
    ROTNET('--config.few.block=block9'), ["'block9'", 'hidden1, hidden2']),
  'unknown head': (ROTNET('--config.heads.kinds=("liner",)'), ["'liner'", "mean 'linear'?"]),
  'few labels for no encoder': (
    ROTNET('--config.few.encoder=random'), ["few.encoder is 'random'", 'not trained']),
}
UNKNOWN = functools.partial(study, file=str(ROOT / 'experiments' / 'ood_detection.py'))
TEST_SETS = lambda *names: (f'--config.sets={names!r}', '--config.near=()')
OOD = {
  'nothing outside': (UNKNOWN(*TEST_SETS()), ['sets', 'at least one name']),
  'empty set outside': (
    UNKNOWN('--data_dir=archives', *TEST_SETS('untested')),
    ["'untested' has no test images", 'at least one']),
  'unknown set outside': (UNKNOWN(*TEST_SETS('minst5k')), ["'minst5k'", "mean 'mnist5k'?"]),
  'colour for a grey network': (
    UNKNOWN(*TEST_SETS('shapes')), ["'shapes' has 3 channels", 'takes 1', 'grey images']),
  'tuned on a test set': (
    UNKNOWN(*TEST_SETS('gaussian', 'oe_uniform')), ["'oe_uniform' is one of", 'not tested on']),
  'nothing left to test on': (
    UNKNOWN('--config.validation.images=250'), ['250 test images', 'validation.images smaller']),
  'unknown score': (UNKNOWN('--config.scores=("enrgy",)'), ["scores 'enrgy'", "mean 'energy'?"]),
  'temperature of ODIN': (
    UNKNOWN('--config.score.odin.temperature=0.0'), ['temperature of the score odin', 'above 0']),
  'step of ODIN': (
    UNKNOWN('--config.perturbation.eps=-0.1'), ['perturbation.eps', 'at least 0, got -0.1']),
  'percentile of ReAct': (
    UNKNOWN('--config.score.react.percentile=100.0'), ['of the score react', 'below 100']),
  'more neighbours than images': (
    UNKNOWN('--config.score.knn.k=301'), ['k of the score knn', 'at most 300, got 301']),
  'features of no layer': (
    UNKNOWN('--config.layers=("stage9",)'), ["feature in layers 'stage9'", "mean 'stage3'?"]),
}
REGULARISED = functools.partial(study, file=str(ROOT / 'experiments' / 'regularization.py'))
REGULARISATION = {
  'severity of nothing': (
    REGULARISED('--config.test.severities=(0,1)'), ['test.severities', 'at least 1', 'got 0']),
  'severity past the worst': (
    REGULARISED('--config.test.severities=(6,)'), ['test.severities', 'at most 5', 'got 6']),
  'unknown corruption': (
    REGULARISED('--config.test.cifar=("gausian_noise",)'), ["'gausian_noise'", "'gaussian_noise'"]),
  'colour of grey images': (
    REGULARISED('--config.test.cifar=("saturate",)'), ['no colour', "'saturate'"]),
  'hole of nothing': (
    REGULARISED('--config.arm.all.augment.cutout.length=0'), ['length of cutout', 'got 0']),
  'mixing less than nothing': (
    REGULARISED('--config.arm.all.augment.mixup.alpha=-1.0'), ['alpha of mixup', 'at least 0']),
  'swept past its range': (
    REGULARISED('--config.sweep.cutout.over.length=(2,0)'), ['length of cutout', 'got 0']),
  'sweep of an unknown option': (
    REGULARISED('--config.sweep.cutout.over={"lenght": (2,)}'), ["'lenght'", "mean 'length'?"]),
  'unknown sweep': (REGULARISED('--config.sweeps=("mixpu",)'), ["sweeps 'mixpu'", "'mixup'?"]),
  'unknown regulariser': (
    REGULARISED('--config.arms=("baseline","cutuot")'), ["arms 'cutuot'", "mean 'cutout'?"]),
  'rotation head of negative weight': (
    REGULARISED('--config.arm.all.rotation.weight=-0.5'), ['weight of rotation', 'at least 0']),
  'no folder of corrupted images': (
    REGULARISED('--config.cifar10c=nowhere'), ['no folder nowhere', 'CIFAR-10-C']),
  'no validation to choose on': (
    REGULARISED('--config.train.data.validation=0'), ['train.data.validation', 'at least 1']),
}
EXPOSE = functools.partial(study, file=str(ROOT / 'experiments' / 'outlier_exposure.py'))
EXPOSURE = {
  'a class that is not there': (EXPOSE('--config.keep=(0,1,12)'), ['class 12', '10 classes, 0..9']),
  'a single class to learn': (EXPOSE('--config.keep=(3,)'), ['classes to keep', 'at least 2', '1']),
  'no class left over': (
    EXPOSE('--config.keep=(0,1,2,3,4,5,6,7,8,9)'), ['classes to keep', 'at most 9, got 10']),
  'a class kept twice': (EXPOSE('--config.keep=(0,1,1)'), ['each given once', '[0, 1, 1]']),
  'more kinds of outliers than there are': (
    EXPOSE('--config.arm.oe.classes=11'), ['11 classes of outliers', "'mnist5k' has 10"]),
  'outliers that are not there': (
    EXPOSE('--config.outliers.name=nowhere'), ["no set 'nowhere'", 'prepare']),
  'outliers without training images': (
    EXPOSE('--config.outliers.name=untrained', '--data_dir=archives'),
    ["'untrained' has no training images", 'another']),
  'outliers of another colour': (
    EXPOSE('--config.outliers.name=shapes', '--config.arms=("oe",)'), ['3 channels', 'takes 1']),
  'outlier images not shared equally': (
    EXPOSE('--config.arm.oe.images=101'), ['101 outlier images', '10 classes', 'multiple']),
  'no outliers beside an image': (
    EXPOSE('--config.outliers.ratio=0'), ['outliers for each image', 'at least 1, got 0']),
  'negative weight of outliers': (
    EXPOSE('--config.arm.oe.weight=-0.5'), ['weight of the outliers', 'at least 0, got -0.5']),
  'unknown loss of outliers': (EXPOSE('--config.arm.oe.loss=unifrom'), ["mean 'uniform'?"]),
  'unknown start': (EXPOSE('--config.arm.oe.start=bass'), ["'bass'", 'scratch, base']),
  'energies from nothing': (
    EXPOSE('--config.arm.energy_tune.start=scratch'), ['energy_tune', 'margins.fixed', "'base'"]),
  'margins the wrong way round': (
    EXPOSE('--config.margins.fixed=(-5.0,-23.0)'), ['m_in must be', 'below -23.0, got -5.0']),
  'a single margin': (EXPOSE('--config.margins.fixed=(-5.0,)'), ['two numbers', 'got 1']),
  'quantile past 1': (EXPOSE('--config.margins.quantiles=(0.5,1.5)'), ['m_out', 'at most 1']),
  'test set of another colour': (
    EXPOSE('--config.sets=("left_out","shapes")'), ["'shapes' has 3 channels", 'takes 1']),
  'no test set at hand': (EXPOSE('--config.sets=("svhm",)'), ['None of the sets svhm', 'prepare']),
  'no set from elsewhere': (EXPOSE('--config.sets=()'), ['sets must be', 'at least one set']),
}
SURE = functools.partial(study, file=str(ROOT / 'experiments' / 'selective_prediction.py'))
SELECTIVE = {
  'no passes': (SURE('--config.passes=0'), ['passes must be', 'at least 1, got 0']),
  'no members': (SURE('--config.seeds=()'), ['seeds must be a list of at least one']),
  'more pairs than members': (SURE('--config.paired=3'), ['paired', 'at most 2, got 3']),
  'network without dropout': (
    SURE('--config.train.model.dropout=0.0'), ['needs a network with dropout', 'above 0']),
  'no coverage': (SURE('--config.coverages=(0.0,)'), ['A coverage must be', 'above 0', 'got 0.0']),
  'coverage past 1': (SURE('--config.coverages=(0.5,1.5)'), ['A coverage', 'at most 1, got 1.5']),
  'required accuracy past 1': (SURE('--config.required=(1.2,)'), ['required', 'at most 1']),
  'no images to fit a temperature': (
    SURE('--config.data.digits.validation=0'), ['data.digits.validation is 0', 'hold some out']),
  'ensemble without plain networks': (
    SURE('--config.arms=("label_smoothing",)'), ['first of arms', "'label_smoothing'", 'plain']),
  'no severity': (SURE('--config.severity=6'), ['severity of a corruption', 'at most 5, got 6']),
  'no resamples': (SURE('--config.resamples=0'), ['resamples must be', 'at least 1, got 0']),
}
SIMCLR_STUDY = functools.partial(study, file=str(ROOT / 'experiments' / 'simclr.py'))
SIMCLR = {
  'temperature of contrast of zero': (
    SIMCLR_STUDY('--config.arm.simclr.options.temperature=0.0'), ['temperature', 'above 0']),
  'nothing to contrast with': (
    SIMCLR_STUDY(*train(batch_size=1)), ['batch_size', 'at least 2, got 1']),
  'fraction of labels above 1': (
    SIMCLR_STUDY('--config.labels.amounts=(1.5,)'), ['fraction up to 1.0', 'got 1.5']),
  'more labels of a class than there are': (
    SIMCLR_STUDY('--config.labels.amounts=(41,)'), ['40 examples, fewer than the 41']),
  'unknown optimizer of pre-training': (
    SIMCLR_STUDY(*train(optimizer__name='larz')), ["optimizer 'larz'", "'lars'?"]),
  'unknown arm of pre-training': (
    SIMCLR_STUDY('--config.arms=("simcrl",)'), ["arms 'simcrl'", "'simclr'?"]),
  'labels for an arm that is left out': (
    SIMCLR_STUDY('--config.labels.arm=simsiam'), ["labels.arm 'simsiam'", 'byol']),
  'projection of no width': (
    SIMCLR_STUDY('--config.arm.simclr.projection=(0,)'), ['simclr.projection', 'at least 1']),
  'no predictor': (
    SIMCLR_STUDY('--config.arm.byol.predictor=()'), ['byol', 'needs a predictor', 'widths']),
  'target that runs ahead': (
    SIMCLR_STUDY('--config.arm.byol.options.decay=1.5'), ['decay of the target', 'at most 1']),
  'crop larger than the image': (
    SIMCLR_STUDY('--config.view.crop=(0.5,2.0)'), ['random_resized_crop', 'at most 1, got 2.0']),
  'warm-up as long as the run': (
    SIMCLR_STUDY('--config.warmup=2.0'), ['warm-up of 2 epochs', 'a run of 2', 'less']),
  'batch of the grid of one': (
    SIMCLR_STUDY('--config.grid.batch_sizes=(1,)'), ['grid.batch_sizes', 'at least 2']),
}  # fmt: skip
CASES = CONFIG | VALUES | DATA | WORKDIR | ATTACKS | TICKETS | TEACHING | SEARCHES | QUANTIZATION
CASES |= ROTATIONS | OOD | REGULARISATION
CASES |= EXPOSURE | SELECTIVE
CASES |= SIMCLR | AUGMENTATION


def test_there_are_enough_cases():
  groups = (CONFIG, VALUES, DATA, WORKDIR, ATTACKS, TICKETS, TEACHING, SEARCHES, QUANTIZATION,
            ROTATIONS, OOD, REGULARISATION,
            EXPOSURE, SELECTIVE, SIMCLR, AUGMENTATION)
  assert len(CASES) == sum(map(len, groups)) >= 45


class Witness:
  """Leaves a file behind when it is unpickled."""

  def __reduce__(self):
    return (open, ('unpickled', 'w'))


def write_archives(where):
  where.mkdir()
  images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
  labels = np.arange(20) % 2
  whole = {
    'train_images': images, 'train_labels': labels, 'test_images': images, 'test_labels': labels
  }
  save = lambda name, **changed: np.savez(where / f'{name}.npz', **(whole | changed))
  save('good')
  good = (where / 'good.npz').read_bytes()
  (where / 'cut.npz').write_bytes(good[: len(good) // 2])
  (where / 'garbled.npz').write_bytes(good.replace(images.tobytes()[:9], b'\0' * 9))
  (where / 'text.npz').write_text('no archive')
  (where / 'folder.npz').mkdir()
  save('flat', train_images=images[..., 0])
  save('first', train_images=images.transpose(0, 3, 1, 2))
  save('longer', train_labels=np.arange(21) % 2)
  save('sizes', test_images=np.zeros((20, 9, 9, 3), np.uint8))
  save('unit', train_images=images / 255)
  save('normal', train_images=images / 63.75 - 2)
  save('unnamed', label_names=['a'])
  save('negative', train_labels=-7 * labels)
  save('wide', train_images=images[:, :6], test_images=images[:, :6])
  save('huge', train_labels=labels * 2**32)
  save('fraction', train_labels=labels / 2)
  save('unlabelled', train_labels=labels - 1)
  save('untrained', train_images=images[:0], train_labels=labels[:0])
  save('untested', test_images=images[:0], test_labels=labels[:0])
  save('pickled', train_labels=np.array([Witness()] * 20))
  trap, empty = pickle.dumps(Witness()), npy((0, 1, 1, 3))
  write_zip(where / 'other.npz', {'weights.npy': empty, 'README': b'x'})
  write_zip(where / 'bare.npz', {'train_images.npy': empty})
  write_zip(where / 'header.npz', {'train_images.npy': b'\x93NUMPY\x01\x00\x40\x00' + b'{(' * 32})
  write_zip(where / 'pickle.npz', {'train_images.pkl': trap, 'train_images': trap})
  write_zip(where / 'bomb.npz', {'train_images.npy': npy((2**40,))}, len(npy((2**40,))) + 2**40)
  write_zip(where / 'liar.npz', {'train_images.npy': npy((10**6, 1000, 1000, 3))})
  write_zip(where / 'climber.npz', {'../train_images.npy': empty})
  write_zip(where / 'root.npz', {'/tmp/x.npy': empty})


def npy(shape):
  """The head of an .npy file of bytes."""
  head = repr({'descr': '|u1', 'fortran_order': False, 'shape': shape}).encode()
  return b'\x93NUMPY\x01\x00' + len(head).to_bytes(2, 'little') + head


def write_zip(path, members, declared=None):
  """A zip file, whose first member says it has the `declared` size."""
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    for name, content in members.items():
      file.writestr(name, content)
    if declared:
      file.filelist[0].file_size = declared


def png(side):
  """The head of a black image and none of its pixels."""
  chunk = lambda k, d: struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d))
  head = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', b'') + chunk(b'IEND', b'')


def write_photos(where):
  tree = {name: 'ab' for name in ('photos', 'gap', 'text', 'cut', 'bomb', 'few')}
  for name, classes in {**tree, 'single': 'a'}.items():
    for c in classes:
      (where / name / c).mkdir(parents=True)
      for i in range(2 if name == 'few' else 6):
        Image.new('RGB', (8, 8), (i, 0, 0)).save(where / name / c / f'{i}.png')
  (where / 'void').mkdir()
  (where / 'gap' / 'none').mkdir()
  (where / 'text' / 'a' / 'x.jpg').write_text('no image')
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  Image.fromarray(noise).save(where / 'cut' / 'a' / 'x.png')
  whole = (where / 'cut' / 'a' / 'x.png').read_bytes()
  (where / 'cut' / 'a' / 'x.png').write_bytes(whole[: len(whole) // 2])
  (where / 'bomb' / 'a' / 'x.png').write_bytes(png(100_000))
  (where / 'circle').symlink_to('circle')


def write_configs(where):
  (where / 'syntax.py').write_text('x = 1\ndef get_config(:\n')
  (where / 'imports.py').write_text('import no_such_module\n')
  (where / 'binary.py').write_bytes(b'\xff\xfe\x00get_config')
  (where / 'empty.py').write_text('x = 1\n')
  (where / 'none.py').write_text('def get_config():\n  pass\n')
  (where / 'small.py').write_text(SMALL.format(config=str(CONFIGS / 'classify.py')))


def write_runs(where, run):
  done = run(study('--workdir=done', '--config=small.py'), where)
  assert done.code == 0, done.err
  for name in ('torn', 'halved', 'swapped'):
    shutil.copytree(where / 'done', where / name)
  (where / 'torn' / 'seed-0' / 'stage.json').write_text('{"finger')
  (where / 'halved' / 'seed-0' / 'DONE').write_text('{}')
  (where / 'swapped' / 'seed-0' / 'DONE').unlink()
  shutil.rmtree(where / 'swapped' / 'seed-0' / 'checkpoints')
  with Checkpoints(where / 'swapped' / 'seed-0' / 'checkpoints') as checkpoints:
    checkpoints.save(2, {'state': {'params': {'hidden1': {'kernel': np.zeros((64, 4))}}}})
  (where / 'project').mkdir()
  (where / 'project' / 'config.json').write_text(json.dumps({'mine': True}))


@pytest.fixture(scope='module')
def machine():
  with Preloaded() as preloaded:
    yield preloaded


@pytest.fixture(scope='module')
def sandbox(machine, tmp_path_factory):
  where = tmp_path_factory.mktemp('sandbox')
  write_archives(where / 'archives')
  write_photos(where)
  write_configs(where)
  write_runs(where, machine.run)
  return where


def contents(where):
  """path -> hash of every file, and the folders."""
  digest = lambda p: hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else None
  return {str(p.relative_to(where)): digest(p) for p in where.rglob('*')}


def check(done, fragments):
  assert done.code == 2, f'{done.code}: {done.err}'
  assert 'Traceback' not in done.err and len(done.err.strip().splitlines()) <= 3, done.err
  assert all(fragment in done.err for fragment in fragments), done.err


@pytest.mark.parametrize('name', CASES)
def test_it_is_one_sentence_and_nothing_changes(name, sandbox, machine):
  command, fragments, *environment = CASES[name]
  before = contents(sandbox)
  done = machine.run(command, sandbox, **(environment[0] if environment else {}))
  check(done, fragments)
  after = contents(sandbox)
  if name == 'checkpoint of another model':  # found by the stage itself, when it goes on
    assert done.out == '[1/2] seed-0: goes on\n'
    assert before.pop('swapped/run.json') and after.pop('swapped/run.json')  # the last command
  else:
    assert done.out == ''
  assert after == before


@pytest.mark.parametrize('name', ['unknown nested key', 'prepare once more'])
def test_a_new_interpreter_says_the_same(name, sandbox, machine):
  command, fragments = CASES[name]
  alone = plain(['-m', *command[1:]] if command[0] == '-m' else command, sandbox)
  check(alone, fragments)
  assert alone == machine.run(command, sandbox)


def test_a_device_asked_for_in_the_environment(sandbox):
  done = plain(study(), sandbox, JAX_PLATFORMS={'gpu': 'cuda'}.get(ABSENT, ABSENT))
  check(done, ['JAX finds no', '--platform=cpu'])
  assert not (sandbox / 'new').exists()


def test_what_is_right_is_not_refused(sandbox, machine):
  photos = folder('photos', *train(data__size=6), '--dry_run')
  for command in (archive('good', *train(batch_size=20), '--dry_run'), photos, sam(steps=2)):
    done = machine.run([*command, '--dry_run'], sandbox)
    assert done.code == 0 and 'to do' in done.out, done.err


def test_a_bug_keeps_its_traceback_and_debugging_shows_where(sandbox, machine):
  (sandbox / 'bug.py').write_text('def get_config(variant=""):\n  return {}["epochs"]\n')
  done = machine.run(study('--config=bug.py'), sandbox)
  assert done.code == 1 and 'Traceback' in done.err and "KeyError: 'epochs'" in done.err
  done = machine.run(study(*train(epochs=-1)), sandbox, JAXDL_DEBUG='1')
  assert done.code == 1 and 'Traceback' in done.err and 'recipe.py' in done.err
  (sandbox / 'bug.py').unlink()
