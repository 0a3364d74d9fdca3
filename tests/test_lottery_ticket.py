"""The study of lottery tickets: a small one is run once, and every arm of it examined."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from jaxdl.sparsity import arms, claims, criteria, held, masks, report, tickets
from jaxdl.sparsity.found import LATER, LI, STABLE, Found, published, published_pgd
from jaxdl.train import classifier
from jaxdl.train.evaluate import classification, predict
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Context, run_stages

ROOT = pathlib.Path(__file__).parent.parent / 'experiments'
ARMS = ('reinit', 'random', 'finetune', 'oneshot')
ACTIONS = ('constant', 'reshuffle', 'frozen_zero_if_shrunk')


def load(path):
  spec = importlib.util.spec_from_file_location(f'study_{path.parent.name}_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


STUDY = load(ROOT / 'lottery_ticket.py')
CONFIG = load(ROOT / 'configs' / 'lottery_ticket.py')


def small():
  """One search of two rounds on few digits, every arm at the second."""
  c = CONFIG.get_config('smoke')
  c.train.data.per_class, c.train.data.test, c.train.model.hidden = 20, 60, (24,)
  c.train.epochs, c.train.batch_size = 8.0, 20  # 80 steps
  c.trunks, c.reinits = ('rewind',), 2
  c.trunk.rewind.update({'k': 20, 'at': (2,), 'arms': ARMS, 'rate': 0.5})
  c.actions.update({'at': (2,), 'names': ACTIONS})
  c.criteria.names, c.connectivity.points = ('large_final', 'taylor'), (('rewind', 0),)
  return c


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  c, workdir = small(), tmp_path_factory.mktemp('tickets')
  c.lock()
  results = run_stages(STUDY.stages(c), workdir, log=lambda line: None)
  return c, workdir, results


def source(finished, ticket='rewind-2-0'):
  c, workdir, _ = finished
  t = classifier.task(c.train.to_dict())
  allowed = masks.prunable(tickets.drawn(t.model, t.dataset.image_shape, jax.random.key(0)).params)
  folder = {'dense': 'standard-0', 'early': 'standard-0-step20', 'parent': 'rewind-1-0',
            'ticket': ticket}
  folder = {role: workdir / name for role, name in folder.items()}
  return arms.Source(t, 0, 20, 'global', allowed, folder)


def same(a, b):
  return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_densities_are_exact_before_during_and_after_training(finished):
  _, workdir, results = finished
  kernels, rest = 64 * 24 + 24 * 10, 24 + 10
  wanted = {'standard-0': kernels, 'rewind-1-0': kernels // 2, 'rewind-2-0': kernels // 4}
  wanted |= {f'rewind-2-{arm}-0': kernels // 4 for arm in (*ARMS, *ACTIONS)}
  wanted |= {f'rewind-2-by-{name}-0': kernels // 4 for name in ('large_final', 'taylor')}
  for name, kept in wanted.items():
    logged = read_metrics(workdir / name)
    assert set(logged['mask/kept'][1]) == {kept + rest}, name
    assert len(logged['mask/revived'][1]) >= 2 and not any(logged['mask/revived'][1])
    w = results[name]['weights']
    assert w['kept'] == kept + rest and w['revived'] == 0
    assert w['density'] == kept / kernels
    params, _ = classifier.load_weights(workdir / name)
    nonzero = sum(np.count_nonzero(params[x]['kernel']) for x in ('hidden1', 'head'))
    assert nonzero == kept, name


def test_the_early_weights_are_those_of_the_dense_run(finished, tmp_path):
  c, workdir, _ = finished
  t = classifier.task(c.train.to_dict())
  classifier.train(c.train.to_dict(), 0, tmp_path, t, stop=20)
  plain, early, dense = (
    classifier.load_weights(folder)[0]['head']['kernel']
    for folder in (tmp_path, workdir / 'standard-0-step20', workdir / 'standard-0')
  )
  np.testing.assert_allclose(early, plain, atol=1e-6)  # another program, without a mask
  assert np.abs(early - dense).max() > 1e-3


def test_a_round_prunes_inside_the_mask_and_rewinds(finished):
  s = source(finished)
  mask, weights = arms.ticket(s, 0.5, None)
  assert same(mask, s.mask())
  inside = jax.tree.map(lambda new, old: not (np.asarray(new) & ~np.asarray(old)).any(), mask,
                        s.mask('parent'))
  assert all(jax.tree.leaves(inside))
  trained = s.trained('parent').params
  size = {x: np.abs(trained[x]['kernel']) for x in ('hidden1', 'head')}
  least = min(size[x][np.asarray(mask[x]['kernel'])].min() for x in size)
  gone = [np.asarray(s.mask('parent')[x]['kernel']) & ~np.asarray(mask[x]['kernel']) for x in size]
  assert max(size[x][g].max() for x, g in zip(size, gone, strict=True)) <= least
  assert weights.step == 20 and same(weights.params, s.trained('early').params)


def test_every_arm_differs_from_the_ticket_in_what_it_says(finished):
  s, c = source(finished), finished[0]
  mask, early = s.mask(), s.rewound().params
  per_layer = masks.counts(mask, s.allowed)
  for draw in (0, 1):
    other, weights = arms.ARMS['reinit'](s, draw=draw)
    assert same(other, mask) and weights.step == 0
    assert not same(weights.params, early) and not same(weights.params, s.drawn().params)
  other, weights = arms.ARMS['random'](s)
  assert masks.counts(other, s.allowed) == per_layer and not same(other, mask)
  assert weights.step == 20 and same(weights.params, early)
  other, weights = arms.ARMS['oneshot'](s)
  assert masks.density(other, s.allowed) == masks.density(mask, s.allowed)
  assert weights.step == 20 and same(weights.params, early)
  other, weights = arms.ARMS['constant'](s)
  kernel = np.asarray(weights.params['head']['kernel'])
  assert same(other, mask) and len(np.unique(np.abs(kernel))) == 1
  assert (np.sign(kernel) == np.sign(early['head']['kernel'])).all()
  tuned, weights = arms.finetuned(s, 0.5, None)
  assert same(tuned, mask) and weights.step == 0
  assert same(weights.params, s.trained('parent').params)
  mask, weights = arms.chosen(s, 'snip', 0.25, c.criteria.per_class)
  assert weights.step == 0 and same(weights.params, s.drawn().params)
  assert masks.density(mask, s.allowed) == 0.25
  mask, weights = arms.chosen(s, 'large_final', 0.25, c.criteria.per_class)
  assert weights.step == 20
  wanted = tickets.pruned_by_magnitude(s.trained().params, s.everything(), s.allowed, 0.75)
  assert same(mask, wanted)


def test_layer_by_layer_every_arm_has_the_layers_of_the_ticket(finished):
  s = source(finished)._replace(scope='layer')
  wanted = masks.counts(s.mask(), s.allowed)
  assert len({kept / of for kept, of in wanted.values()}) > 1
  for mask, _ in (arms.ARMS['oneshot'](s), arms.chosen(s, 'movement', 0.25, 5)):
    assert masks.counts(mask, s.allowed) == wanted and not same(mask, s.mask())
  mask, _ = arms.chosen(s, 'snip', 0.3, 5)
  assert masks.density(mask, s.allowed) == masks.density(s.mask(), s.allowed)


def test_random_starts_are_other_ones_for_every_seed_and_draw(finished):
  s = source(finished)
  start = lambda s, draw: arms.ARMS['constant_random_sign'](s, draw=draw)[1].params
  several = ((s, 0), (s, 1), (s._replace(seed=1), 0))
  signs = [np.sign(start(*of)['head']['kernel']) for of in several]
  assert all((a != b).any() for a, b in zip(signs, signs[1:] + signs[:1], strict=True))


def test_frozen_weights_are_part_of_the_network_and_stay(finished):
  s = source(finished)
  folder = finished[1] / 'rewind-2-frozen_zero_if_shrunk-0'
  params, state = classifier.load_weights(folder)
  first, final, mask = s.rewound().params, s.trained().params, s.mask()
  for name in ('hidden1', 'head'):
    i, f, w, v, m = (np.asarray(t[name]['kernel'])
                     for t in (first, final, params, state[held.HELD], mask))
    grew = np.abs(f) >= np.abs(i)
    np.testing.assert_array_equal(v, np.where(~m & grew, i, 0))
    assert v.any() and not w[~m].any() and (w[m] != i[m]).any()
  whole = jax.tree.map(np.add, params, state[held.HELD])
  logits = predict(s.t.model, whole, {}, s.t.test.images)
  assert classification(logits, s.t.test.labels)['accuracy'] == pytest.approx(
    finished[2][folder.name]['test']['accuracy'])


def test_fine_tuning_is_short_and_at_the_last_rate(finished):
  c, workdir, results = finished
  logged = read_metrics(workdir / 'rewind-2-finetune-0')
  assert results['rewind-2-finetune-0']['updates'] == 40
  np.testing.assert_allclose(logged['train/learning_rate'][1], 0.001, rtol=1e-5)


def test_the_other_order_of_the_data_ends_elsewhere(finished):
  _, workdir, results = finished
  ends = [classifier.load_weights(workdir / name)[0] for name in ('standard-0', 'rewind-0-order-0')]
  assert not same(*ends)
  line = results['rewind-0-lines-0']['another order of the data']
  wrong = [1 - results[name]['test']['accuracy'] for name in ('standard-0', 'rewind-0-order-0')]
  np.testing.assert_allclose([line['error'][0], line['error'][-1]], wrong, atol=1e-6)


def test_costs_count_the_search(finished):
  c, workdir, results = finished
  found = gathered(c, workdir, results)
  # 80 steps dense, 60 from step 20, 40 of a round of fine-tuning
  assert found.cost('standard', 0, 'dense') == 1
  for arm, updates in (
    ('ticket', 80 + 60 + 60), ('reinit', 80 + 60 + 80), ('random', 80 + 60 + 60),
    ('finetune', 80 + 40 + 40), ('oneshot', 80 + 60),
  ):
    assert found.cost('rewind', 2, arm) == updates / 80, arm
  assert found.cost('rewind', 2, 'large_final', True) == (80 + 60) / 80


def gathered(c, workdir, results):
  """What the report gathers of the stages."""
  seen = {}

  def found_of(found):
    seen['found'] = found
    return iter(())

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(report, 'best', found_of)
    *todo, last = STUDY.stages(c)
    folders = {stage.name: workdir / stage.name for stage in todo}
    last.run(Context(workdir / 'again', results, folders))
  return seen['found']


def made_up(accuracies, name='resnet20', data='cifar10'):
  """A study whose networks have these accuracies: (trunk, level, arm) -> value in percent."""
  c = CONFIG.get_config('')
  c.trunks = ('rewind', 'init', 'layer')
  c.train.model.name, c.train.data.name = name, data
  c.trunk.rewind.update({'at': (8,)})
  c.trunk.init.update({'at': (8,)})
  results = {
    (trunk, level, arm, False): [{
      'test': {'accuracy': value / 100}, 'updates': 30_000,
      'weights': {'density': 0.8**level, 'layers': {}, 'smallest_layer': 0.1},
    }] for (trunk, level, arm), value in accuracies.items()
  }
  return Found(c, results, {})


def test_claims_say_what_was_and_what_was_not_seen():
  accuracies = {
    ('standard', 0, 'dense'): 91, ('rewind', 8, 'ticket'): 90.9, ('rewind', 8, 'reinit'): 88,
    ('rewind', 8, 'random'): 90, ('init', 8, 'ticket'): 88, ('init', 8, 'reinit'): 87.8,
    ('layer', 8, 'ticket'): 89,
  }
  lines = list(claims.claims(made_up(accuracies), {}))
  line = lambda start: next(x for x in lines if x.startswith(start))
  assert '**seen** (down to 16.8 % density)' in line('Tickets of `rewind` match')
  assert '**not seen** (the best has 88.00 %)' in line('Tickets of `init` match')
  beats = 'The ticket of `rewind` beats a random'
  assert '**seen** (ticket 90.90 %, reinit 88.00 %)' in line(f'{beats} reinit')
  assert '**not seen** (ticket 90.90 %, random 90.00 %)' in line(f'{beats} mask')
  assert 'within 1 point): **seen**' in line('Rewound to step 0 at a large rate')


def test_published_numbers_stand_beside_their_own_networks_only():
  c = made_up({}).c
  assert published(c, 'init', 'ticket', 0.168) == (87.7, STABLE)
  assert published(c, 'init', 'ticket', 0.1) == ()
  assert published(c, 'rewind', 'ticket', 0.168) == ()
  assert published(c, 'standard', 'dense', 1.0)[0] == 90.5
  assert published(made_up({}, 'vgg16_bn').c, 'standard', 'dense', 1.0) == (93.7, LATER)
  assert published(made_up({}, 'mlp', 'digits').c, 'standard', 'dense', 1.0) == ()
  vgg = CONFIG.get_config('vgg')
  assert published_pgd(vgg, 'adversarial_60', 'ticket') == ((76.48, LI), (45.73, LI))
  assert published_pgd(vgg, 'pgd_100', 'dense') == ((77.21, LI), (44.78, LI))
  assert published_pgd(vgg, 'adversarial_60', 'reinit') == ((), ())
  assert published_pgd(c, 'adversarial', 'ticket') == ((), ())


def test_claims_about_actions_and_criteria_say_which_was_better():
  have = {('rewind', 8, 'ticket'): 90, ('rewind', 8, 'frozen'): 89, ('rewind', 8, 'reinit'): 88,
          ('rewind', 8, 'constant'): 87, ('rewind', 5, 'frozen'): 99, ('rewind', 5, 'ticket'): 90}
  lines = list(claims.of_actions(made_up(have)))
  assert len(lines) == 2  # at the last density that both have
  assert lines[0].endswith('at 16.8 % density: **not seen** (87.00 % and 88.00 %).')
  assert lines[1].endswith('at 16.8 % density: **seen** (90.00 % and 89.00 %).')
  result = lambda value: [{'test': {'accuracy': value / 100}}]
  names = {'large_final': 90, 'random': 87, 'snip': 88, 'grasp': 86}
  found = made_up({})._replace(
    results={('rewind', 8, name, True): result(value) for name, value in names.items()})
  largest, start, chance = claims.of_criteria(found)
  assert '**seen** (90.00 % and 87.00 %)' in largest
  assert '**seen** (large_final 90.00 %; snip 88.00 %, grasp 86.00 %)' in start
  assert '**not seen** (the lowest, grasp, 86.00 %; random 87.00 %)' in chance


def test_the_best_way_is_told_with_its_cost():
  accuracies = {
    ('standard', 0, 'dense'): 91, ('rewind', 1, 'ticket'): 90.9, ('rewind', 1, 'oneshot'): 90,
    ('init', 1, 'ticket'): 92,
  }
  line, last = claims.best(made_up(accuracies))
  assert line.startswith('80 % density, 3 ways: `init` ticket 92.00 % (cost 2), `rewind` ticket')
  assert last.startswith('**The best way here: `init` ticket**, first at 1 of 1 densities.')
  assert last.endswith('`init` ticket is 1.00 points above the dense network.')


def test_networks_with_frozen_weights_are_no_sparse_way():
  accuracies = {
    ('standard', 0, 'dense'): 91, ('rewind', 1, 'ticket'): 90.9, ('rewind', 1, 'frozen'): 95,
    ('init', 1, 'ticket'): 90, ('layer', 1, 'ticket'): 89,
  }
  line, _ = claims.best(made_up(accuracies))
  assert line.startswith('80 % density, 3 ways: `rewind` ticket')


@pytest.mark.parametrize(('change', 'says'), (
  ({'actions': {'names': ('frozn',)}}, "action 'frozn'. Did you mean 'frozen'"),
  ({'actions': {'names': ('reinit',)}}, "action 'reinit'"),
  ({'actions': {'at': (14,)}}, 'Each of actions.at must be'),
  ({'actions': {'trunk': 'rewnd'}}, "trunk of the actions 'rewnd'"),
  ({'criteria': {'seeds': -1}}, 'criteria.seeds must be'),
))  # fmt: skip
def test_actions_that_cannot_be_are_refused(change, says):
  c = CONFIG.get_config('')
  c.update(change)
  with pytest.raises(ValueError, match=says):
    STUDY.stages(c)


def test_names_of_arms_are_known():
  assert set(arms.ARMS) == {'oneshot', 'random', *criteria.ACTIONS, *held.ACTIONS} - {'rewind'}
  assert set(CONFIG.ACTIONS) == set(report.ACTIONS)
