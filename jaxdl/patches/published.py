"""Numbers of others on CIFAR-10. The paper has none; these are a student's, at another scale."""

REPORT = 'a student report on CIFAR-10, quoted by a third party: ResNet to {}, other networks'
# (victim, target) -> side -> targeted success (%) of a patch made for a ResNet
TRANSFER = {
  ('densenet', 'airplane'): {3: 14.12, 5: 9.85, 7: 17.74, 16: 6.68},
  ('densenet', 'horse'): {3: 9.20, 5: 10.51, 7: 6.52, 16: 0.60},
  ('vgg', 'airplane'): {3: 30.63, 5: 36.81, 7: 45.39, 16: 0.00},
  ('vgg', 'horse'): {3: 9.14, 5: 8.65, 7: 7.93, 16: 1.80},
}
