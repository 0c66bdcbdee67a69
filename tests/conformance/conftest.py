"""Small networks on one thread: a second costs more than it gives, the more so when tests run side by side."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
