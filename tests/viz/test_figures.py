"""Figures show the numbers they were given, and leave no global state behind."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from jaxdl.viz import style
from jaxdl.viz.calibration import calibration, reliability_diagram
from jaxdl.viz.confusion import confusion_matrix
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.grids import image_grid
from jaxdl.viz.histograms import histograms
from jaxdl.viz.surface import loss_lines, loss_surface


def _png(figure):
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=40)
  return buffer.getvalue()


def _labels(figure):
  return [text.get_text() for text in figure.legends[0].get_texts()]


def _series(steps, values):
  return np.asarray(steps), np.asarray(values, float)


@pytest.mark.parametrize(
  'make',
  [
    lambda: learning_curves({'a': {'loss': _series([1, 2], [3, 4])}}, ['loss']),
    lambda: lines([0, 1, 10], {'a': ([1, 2, 3], [0, 1, 0])}, 'x', 'y', xscale='symlog'),
    lambda: image_grid(np.random.default_rng(0).random((5, 4, 4, 3)), titles=list('abcde')),
    lambda: confusion_matrix(np.eye(3), ['one', 'two', 'three']),
    lambda: reliability_diagram(calibration([0.3, 0.9], np.array([True, False]))),
    lambda: loss_surface([-1, 0, 1], [-1, 0], np.ones((3, 2)) * [[1], [2], [3]]),
    lambda: loss_lines([-1, 0, 1], {'a': [2, 1, 2], 'b': [[2, 1, 2], [3, 1, 3]]}),
    lambda: histograms({'a': np.arange(9.0)}, 'weight'),
  ],
  ids=['curves', 'lines', 'grid', 'confusion', 'reliability', 'surface', 'slices', 'histograms'],
)
def test_every_figure_draws_the_same_twice_and_touches_nothing_global(make):
  before = dict(matplotlib.rcParams)
  first, second = _png(make()), _png(make())
  assert first == second and first.startswith(b'\x89PNG')
  assert dict(matplotlib.rcParams) == before
  from matplotlib import pyplot

  assert pyplot.get_fignums() == []


def test_learning_curves_average_seeds_over_shared_steps():
  runs = [
    {'loss': _series([1, 2, 3], [1, 2, 3])},
    {'loss': _series([2, 3, 4], [4, 7, 9]), 'accuracy': _series([2], [0.5])},
  ]
  figure = learning_curves({'sgd': runs, 'sam': runs[1]}, ['loss', 'accuracy'], yscale='log')
  loss, accuracy = figure.axes
  mean, sam = loss.lines
  assert mean.get_xdata().tolist() == [2, 3] and mean.get_ydata().tolist() == [3, 5]
  assert sam.get_ydata().tolist() == [4, 7, 9]
  band = loss.collections[0].get_datalim(loss.transData)
  assert (band.y0, band.y1) == pytest.approx((3 - 2**0.5, 5 + 8**0.5))
  assert len(accuracy.lines) == 2 and loss.get_yscale() == 'log'
  assert _labels(figure) == ['sgd', 'sam']


def test_an_average_over_the_last_few_steps_is_no_point_of_a_training_curve():
  runs = {'a': {'train/loss': _series([10, 20, 21], [3, 2, 9]),
                'test/loss': _series([10, 20, 21], [3, 2, 1])}}
  train, test = learning_curves(runs, ['train/loss', 'test/loss']).axes
  assert train.lines[0].get_xdata().tolist() == [10, 20]
  assert test.lines[0].get_xdata().tolist() == [10, 20, 21]
  whole = {'a': {'train/loss': _series([10, 20, 28], [3, 2, 1])}}
  assert learning_curves(whole, ['train/loss']).axes[0].lines[0].get_xdata().tolist()[-1] == 28


def test_a_metric_nobody_recorded_is_named_with_those_that_are():
  with pytest.raises(ValueError, match="no run recorded 'acc'; recorded: a, loss"):
    learning_curves({'r': {'loss': _series([1], [1]), 'a': _series([1], [1])}}, ['acc'])


def test_lines_show_means_bands_and_published_points():
  x = np.array([0.0, 0.01, 0.1])
  series = {'sgd': ([3.0, 2.0, 1.0], None), 'sam': ([3.0, 3.0, np.nan], [0.1, 0.2, 0.3])}
  figure = lines(x, series, 'sigma', 'accuracy', 't', 'symlog', paper={'sam': ([0.01], [2.5])})
  (ax,) = figure.axes
  sgd, sam, paper = ax.lines
  assert sgd.get_ydata().tolist() == [3, 2, 1] and np.isnan(sam.get_ydata()[-1])
  assert paper.get_xydata().tolist() == [[0.01, 2.5]] and paper.get_linestyle() == 'None'
  assert paper.get_color() == sam.get_color() != sgd.get_color()
  assert ax.xaxis.get_transform().linthresh == 0.01 and len(ax.collections) == 1
  assert (ax.get_xlabel(), ax.get_ylabel()) == ('sigma', 'accuracy')
  assert _labels(figure) == ['sgd', 'sam', 'sam (paper)']

  own = lines({'a': [1], 'b': [1, 2]}, {'a': ([5], None), 'b': ([6, 7], None)}, 'x', 'y')
  assert [len(line.get_xdata()) for line in own.axes[0].lines] == [1, 2]
  with pytest.raises(ValueError, match="line 'a' has 2 values for 3 places"):
    lines(x, {'a': ([1, 2], None)}, 'x', 'y')


def test_looks_are_all_different():
  looks = style.colours([str(i) for i in range(32)])
  assert len(looks) == len(set(looks.values())) == 32
  assert all(to_hex(colour) for colour, _, _ in looks.values())


@pytest.mark.parametrize('count,columns,rows', [(1, 1, 1), (5, 3, 2), (100, 10, 10), (7, 7, 1)])
def test_image_grid_places_every_image(count, columns, rows):
  images = np.linspace(0, 1, count)[:, None, None, None] * np.ones((1, 3, 3, 3))
  axes = image_grid(images, columns=columns).axes
  assert len(axes) == rows * columns
  shown = [ax.images[0].get_array()[0, 0, 0] for ax in axes if ax.images]
  assert shown == (np.linspace(0, 1, count) * 255).astype(np.float32).round().tolist()


def test_image_grid_takes_grey_bytes_and_values_out_of_range():
  grey = image_grid(np.array([[[0, 255], [7, 9]]], np.uint8)).axes[0].images[0]
  assert grey.get_array().tolist() == [[0, 255], [7, 9]] and grey.get_clim() == (0, 255)
  wild = np.array([-1.0, 2.0, np.nan, 0.5]).reshape(1, 2, 2, 1)
  shown = image_grid(wild).axes[0].images[0]
  assert shown.get_array().tolist() == [[0, 255], [0, 128]]


def test_image_grid_titles_go_over_the_first_row_or_each_image():
  images = np.zeros((4, 2, 2, 3))
  titles = lambda figure: [ax.get_title('center') for ax in figure.axes]
  assert titles(image_grid(images, 2, ['a', 'b'], ['r', 's'])) == ['a', 'b', '', '']
  assert titles(image_grid(images, 2, list('abcd'))) == list('abcd')
  for wrong in ({'titles': list('abc')}, {'row_titles': ['r']}):
    with pytest.raises(ValueError, match='titles for'):
      image_grid(images, 2, **wrong)
  with pytest.raises(ValueError, match=r'shape \[4, 2, 2, 2\]'):
    image_grid(np.zeros((4, 2, 2, 2)))


def test_confusion_matrix_shares_are_of_the_true_class():
  ax = confusion_matrix([[8, 2], [0, 0]], ['a', 'b']).axes[0]
  assert ax.images[0].get_array().tolist() == [[80, 20], [0, 0]]
  assert {text.get_position(): text.get_text() for text in ax.texts} == {(0, 0): '80', (1, 0): '20'}
  counts = confusion_matrix([[8, 2], [0, 5]], normalise=False).axes[0]
  assert [text.get_text() for text in counts.texts] == ['8', '2', '5']
  with pytest.raises(ValueError, match='3 class names for 2 classes'):
    confusion_matrix(np.eye(2), list('abc'))
  with pytest.raises(ValueError, match=r'expected \[K, K\]'):
    confusion_matrix(np.ones((2, 3)))


def test_confusion_matrix_survives_an_empty_one_and_many_classes():
  assert _png(confusion_matrix(np.zeros((2, 2))))
  assert not confusion_matrix(np.eye(40)).axes[0].texts


def test_reliability_bars_are_the_accuracies():
  stats = calibration([0.05, 0.15, 0.95, 0.95], np.array([1, 0, 1, 0], bool), bins=10)
  upper, lower = reliability_diagram(stats).axes
  accuracy, gap = upper.containers
  assert [bar.get_height() for bar in accuracy] == [1, 0, 0.5]
  np.testing.assert_allclose([bar.get_height() for bar in gap], [-0.95, 0.15, 0.45])
  assert [bar.get_height() for bar in lower.containers[0]] == [25, 25] + [0] * 7 + [50]
  assert f'ECE {100 * stats.ece:.2f} %' in upper.texts[0].get_text()


def test_loss_surface_leaves_what_has_no_logarithm_blank():
  a, b = np.linspace(-1, 1, 5), np.linspace(-2, 2, 4)
  values = 0.1 + a[:, None] ** 2 + 2 * b[None] ** 2
  values[0, 0], values[1, 1] = np.inf, 0.0
  figure = loss_surface(a, b, values, levels=6)
  filled = figure.axes[0].collections[0]
  assert filled.levels[0] == pytest.approx(np.log10(values[values > 0].min()))
  assert filled.levels[-1] == pytest.approx(np.log10(values[np.isfinite(values)].max()))
  assert _png(figure) and _png(loss_surface(a, b, np.ones((5, 4))))
  with pytest.raises(ValueError, match=r'shape \[4, 5\]; expected \[5, 4\]'):
    loss_surface(a, b, values.T)
  with pytest.raises(ValueError, match='nothing to draw'):
    loss_surface(a, b, np.full((5, 4), np.nan))


def test_loss_lines_average_directions():
  ax = loss_lines([0, 1], {'a': [[1, 2], [3, 6]]}).axes[0]
  assert ax.lines[0].get_ydata().tolist() == [2, 4] and len(ax.collections) == 1
  with pytest.raises(ValueError, match='3 values for 2 places'):
    loss_lines([0, 1], {'a': [1, 2, 3]})


NARROW = [[1.0, 1.0 + 1e-15], [0.0, 0.0], [1e-300, 2e-300], [5.0], [-1e9]]


@pytest.mark.parametrize('values', NARROW)
def test_histograms_of_nearly_equal_numbers(values):
  (stairs, _) = histograms({'a': [*values, np.nan, np.inf]}, 'w').axes[0].patches
  heights, edges, _ = stairs.get_data()
  assert (heights * np.diff(edges)).sum() == pytest.approx(1)


def test_histograms_are_densities_over_shared_bins():
  ax = histograms({'a': np.arange(100.0), 'b': np.arange(50.0)}, 'w', bins=10).axes[0]
  a, b = (patch.get_data() for patch in ax.patches[1::2])
  np.testing.assert_array_equal(a.edges, b.edges)
  np.testing.assert_allclose(a.values, 1 / 99)
  with pytest.raises(ValueError, match="'c' has no finite values"):
    histograms({'c': [np.nan]}, 'w')
