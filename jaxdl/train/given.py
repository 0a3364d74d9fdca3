"""A classifier that some study has trained, given by the folder of its stage."""

import json
import pathlib


def trained(folder) -> tuple[dict, str]:
  """(the configuration it was trained with, the fingerprint of that training).

  Raises:
    ValueError: the folder is not that of a finished classifier.
  """
  folder = pathlib.Path(folder)
  try:
    stage = json.loads((folder / 'stage.json').read_text())
    config, fingerprint = stage['config']['train'], stage['fingerprint']
    complete = (folder / 'checkpoints').is_dir() and (folder / 'DONE').exists()
  except (OSError, ValueError, KeyError, TypeError):
    complete = False
  if not complete:
    raise ValueError(
      f'{folder} is not the folder of a trained classifier, with stage.json, checkpoints and DONE: '
      'name one such as runs/adversarial_training/pgd-0.'
    )
  return config, fingerprint
