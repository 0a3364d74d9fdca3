"""Published numbers of adversarial training and of robust features: other networks than ours."""

WONG = 'Wong et al. 2020, table 5, PreActResNet-18; PGD-50 with 10 restarts'
MADRY = 'Madry et al. 2018, table 5'
ADVERSARIAL_TRAINING = {  # (arm, metric) -> value, source; L-infinity 8/255
  ('standard', 'clean (%)'): (92.7, f'{MADRY}, simple network'),
  ('standard', 'FGSM (%)'): (27.5, f'{MADRY}, simple network'),
  ('standard', 'PGD (%)'): (0.8, f'{MADRY}, simple network; PGD-20'),
  ('fgsm_rs', 'clean (%)'): (86.06, WONG), ('fgsm_rs', 'PGD (%)'): (46.06, WONG),
  ('free', 'clean (%)'): (85.96, WONG), ('free', 'PGD (%)'): (46.33, WONG),
  ('pgd', 'clean (%)'): (87.30, WONG), ('pgd', 'PGD (%)'): (45.80, WONG),
  ('pgd', 'FGSM (%)'): (56.1, f'{MADRY}, wide network'),
}

ILYAS = 'Ilyas et al. 2019, table {}, ResNet-50'
ROBUST_FEATURES = {  # (setting, what, L2 radius on 32 x 32 pixels) -> value, table
  **{
    (setting, 'test', eps): (value, 7)
    for setting, values in {
      'standard': (95.25, 4.49, 0.0), 'robust': (90.83, 82.48, 70.90),
      'nonrobust_image': (87.68, 0.82, 0.0), 'nonrobust_noise': (45.60, 1.50, 0.0),
      'robust_image': (85.40, 48.20, 21.85), 'robust_noise': (84.10, 48.27, 29.40),
    }.items()
    for eps, value in zip((0.0, 0.25, 0.5), values, strict=True)
  },
  ('rand', 'test', 0.0): (63.3, 1), ('det', 'test', 0.0): (43.7, 1),
  ('rand_by_robust', 'test', 0.0): (25.2, 9), ('det_by_robust', 'test', 0.0): (5.8, 9),
  ('det', 'next', 0.0): (16.2, 10), ('det_by_robust', 'next', 0.0): (65.5, 10),
  ('robust_noise', 'own', 0.25): (77.33, 8),
}
TRANSFER = ('38-42', 'constructed-datasets, issue 11: the released sets, another network')


def robust_features(setting: str, what: str, eps: float, scale: float = 1.0) -> tuple:
  """(value, source) of Ilyas et al., or nothing.

  Args:
    setting: name of a set, or of a source.
    what: 'test', 'next' or 'own', see `jaxdl.robustness.survey.withstands`.
    eps: L2 radius on our images, 0 for no attack.
    scale: their sides are so many times smaller than the paper's. Means of squares of pixels
      carry a perturbation of that many times its length on the full image.
  """
  found = ROBUST_FEATURES.get((setting, what, eps * scale))
  if found is None:
    return ()
  value, table = found
  where = f'; L2 {eps * scale:g} on 32 x 32 pixels' if eps and scale != 1 else ''
  return value, ILYAS.format(table) + where
