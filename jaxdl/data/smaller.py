"""Smaller images, where the full ones cost too much."""

import numpy as np

from jaxdl.options import check_number


def smaller(images: np.ndarray, factor: int) -> np.ndarray:
  """uint8 [N, H, W, C] -> [N, H / factor, W / factor, C]: rounded means of squares of pixels.

  Raises:
    ValueError: the factor does not divide the sides.
  """
  n, height, width, channels = images.shape
  check_number('factor to make images smaller by', factor, 1, whole=True)
  if height % factor or width % factor:
    raise ValueError(f'Images of {height} x {width} pixels cannot be made {factor} times smaller; '
                     'choose a factor that divides both sides.')
  cut = (n, height // factor, factor, width // factor, factor, channels)
  return np.round(images.reshape(cut).mean((2, 4), dtype=np.float32)).astype(np.uint8)
