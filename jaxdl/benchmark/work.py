"""What a contender hands to its worker."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Work(NamedTuple):
  """Something built and warmed up, ready to be timed.

  Attributes:
    run: `run(n)` does n units of work and returns when the last one is finished.
    images: that one unit processes.
    facts: JSON-able: what else the report should know (a loss, a version, a device). `run` may add
      what it found.
  """

  run: Callable[[int], None]
  images: int
  facts: Mapping[str, Any]
