"""One thread: the networks of the tests are tiny, and threads that wait for each other slow a busy machine down."""

import os

import torch

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # some tests import onnxruntime before our code does
torch.set_num_threads(1)
