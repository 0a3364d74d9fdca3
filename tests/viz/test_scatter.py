"""Points of several groups, as drawn."""

import numpy as np
import pytest

from jaxdl.viz.scatter import scatter


def test_every_point_and_the_line_are_drawn():
  figure = scatter({'a': [(1, 2), (3, 4)], 'none': [], 'b': [(5, 6)]}, 'x', 'y', line=(2.0, 1.0))
  line, *groups = figure.axes[0].lines
  np.testing.assert_array_equal(line.get_xydata(), [[1, 3], [5, 11]])
  drawn = {group.get_label(): group.get_xydata().tolist() for group in groups}
  assert drawn == {'a': [[1, 2], [3, 4]], 'b': [[5, 6]]}


@pytest.mark.parametrize('points', [{}, {'a': []}, {'a': [1, 2]}])
def test_what_is_no_point_is_refused(points):
  with pytest.raises(ValueError, match='at least one point'):
    scatter(points, 'x', 'y')
