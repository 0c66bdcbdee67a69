"""One thread for PyTorch, as the children of these tests have it: sums in another order round differently."""

import torch

torch.set_num_threads(1)
