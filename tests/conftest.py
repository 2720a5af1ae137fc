"""One thread: the networks of the tests are tiny, and threads that wait for each other slow a busy machine down."""

import torch

torch.set_num_threads(1)
