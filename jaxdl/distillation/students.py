"""Students of digits by what they learn from, and what their errors are called."""

from typing import NamedTuple

HINTON = 'Hinton et al. 2015, section 3, 60,000 training images'
ERRORS = 'test errors per 10,000'


class Student(NamedTuple):
  """Two hidden layers that learn digits; alpha 0 has no teacher."""

  hidden: int
  alpha: float = 0.0
  temperature: float = 1.0
  without: tuple[int, ...] = ()  # digits that its training set lacks

  @property
  def name(self):
    """Unique, and good for a folder."""
    taught = f'a{self.alpha:g}-T{self.temperature:g}' if self.alpha else 'labels'
    lacks = '-without' + ''.join(map(str, self.without)) if self.without else ''
    return f'h{self.hidden}-{taught}{lacks}'.replace('.', 'p')
