"""The report of continuous sparsification: whose published numbers, and what the claims say."""

import importlib.util
import pathlib

import pytest

from jaxdl.sparsity import continuous_report as report

PATH = pathlib.Path(__file__).parent.parent / 'experiments/configs/continuous_sparsification.py'


def config():
  spec = importlib.util.spec_from_file_location('continuous_sparsification_config', PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  c = module.get_config('')
  c.starts, c.seeds, c.supermasks = ('below', 'zero'), (0,), ('plain', 'signed_rescaled')
  c.search.rounds = 1
  return c


ACCURACY = {
  'dense': 90.5, 'mlp': 97.9, 'cs-below-1': 88.0, 'cs-zero-1': 90.0, 'cs-below-1-ticket': 89.0,
  'cs-below-1-random': 86.0, 'imp-below-1': 89.5, 'cs-zero-1-ticket': 91.0,
  'cs-zero-1-random': 87.0, 'imp-zero-1': 90.0, 'supermask-plain': 96.0,
  'supermask-signed_rescaled': 95.0,
}
UNTRAINED = (
  ('large_final_same_sign', 'rewind', 0.4, 0.88), ('large_final_same_sign', 'rewind', 0.2, 0.70),
  ('large_final_same_sign', 'constant', 0.4, 0.81), ('large_final', 'rewind', 0.4, 0.66),
  ('random', 'rewind', 0.4, 0.10),
)  # fmt: skip


def of(name):
  if name == 'untrained':
    keys = ('criterion', 'action', 'density', 'accuracy')
    return [[dict(zip(keys, row, strict=True)) for row in UNTRAINED]]
  accuracy = ACCURACY[name] / 100
  density = {'cs-below-1': 0.1, 'cs-zero-1': 0.25}.get(name, 0.5)
  return [{
    'test': {'accuracy': accuracy}, 'soft': {'accuracy': accuracy - 0.002}, 'undecided': 0.004,
    'density': density, 'density_of_all': density, 'smallest_layer': density,
    'draws': [accuracy - 0.01, accuracy + 0.01],
  }]


def accuracies(name):
  return [100 * r['test']['accuracy'] for r in of(name)]


def test_published_numbers_stand_beside_what_they_are_of():
  rows = report.result_rows(config(), of, accuracies)
  paper = {r['setting']: (r['paper'], r['source']) for r in rows if r['paper'] is not None}
  assert paper['dense'] == report.DENSE
  assert paper['ticket of search zero, round 1'][0] == '91.5-92.0'
  assert 'ticket of search below, round 1' not in paper  # 10 % of the weights
  assert paper['untrained, large_final_same_sign, signed constants'][0] == 86.0
  assert paper['untrained, large_final_same_sign, initial weights'][0] == 80.0
  assert 'untrained, large_final, initial weights' not in paper
  value = {(r['setting'], r['metric']): r['value'] for r in rows}
  setting = 'untrained, large_final_same_sign, initial weights'
  assert value[setting, 'test accuracy (%)'] == pytest.approx(88)  # at its best density
  small = config()
  small.train.model.name, small.mlp.data.name = 'resnet8', 'digits'
  assert not any(r['paper'] for r in report.result_rows(small, of, accuracies))


def test_claims_say_what_was_and_what_was_not_seen():
  lines = list(report.claims(config(), of, accuracies))
  line = lambda start, part='': next(x for x in lines if x.startswith(start) and part in x)
  assert '**seen** (-0.1: 10 %, 0: 25 %)' in line('A lower first score')
  assert '**seen** (at most 0.40 %)' in line('Masks end hard')
  reach = 'Tickets reach the dense network'
  assert '**not seen**' in line(reach, 'search below') and '**seen**' in line(reach, 'search zero')
  beat = 'Tickets beat magnitude'
  assert '**not seen**' in line(beat, 'search below') and '**seen**' in line(beat, 'search zero')
  assert '**seen** (88.00 % against 66.00 %)' in line('Untrained, the criterion large_final_same')
  assert '**seen** (plain 96.00 % against 88.00 %)' in line('A learned mask beats every')
  assert '**not seen** (95.00 % against 96.00 %)' in line('Signed constants and rescaling')
