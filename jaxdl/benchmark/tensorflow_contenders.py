"""tf.data at work: the input pipeline that JAX examples usually have."""

import numpy as np
import tensorflow as tf

from jaxdl.benchmark.work import Work
from jaxdl.data.dataset import Split


def pipeline(split: Split, batch_size: int, pad: int = 4):
  """Endless NumPy batches: shuffled, padded, cropped, flipped, read ahead.

  The same augmentation as `jaxdl.augment.crop_flip`, image by image in parallel threads.
  """
  tf.config.set_visible_devices([], 'GPU')
  height, width, channels = split.images.shape[1:]

  def augment(example):
    image = tf.cast(example['image'], tf.float32) / 255
    image = tf.pad(image, [[pad, pad], [pad, pad], [0, 0]])
    image = tf.image.random_crop(image, [height, width, channels])
    return {**example, 'image': tf.image.random_flip_left_right(image)}

  index = np.arange(len(split.labels), dtype=np.int32)
  examples = {'image': split.images, 'label': split.labels, 'index': index}
  dataset = (
    tf.data.Dataset.from_tensor_slices(examples)
    .shuffle(len(index), seed=0).repeat()
    .map(augment, tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
    .prefetch(tf.data.AUTOTUNE)
  )  # fmt: skip
  return dataset.as_numpy_iterator()


def tf_input(batch_size, image=(32, 32, 3), classes=10, examples=10_000, pad=4) -> Work:
  """Augmented batches from tf.data, without any training."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (examples, *image), np.uint8)
  batches = pipeline(
    Split(images, rng.integers(0, classes, examples).astype(np.int32), {}), batch_size, pad
  )

  def run(n):
    for _ in range(n):
      next(batches)

  run(8)
  return Work(run, batch_size, {'version': f'tensorflow {tf.__version__}'})


CONTENDERS = {'input': tf_input}
