"""One thread: the networks of the tests are tiny, and threads that wait for each other slow a busy machine down."""

import os
import signal

import torch

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # some tests import onnxruntime before our code does
torch.set_num_threads(1)

# Who starts the tests in the background may have them ignore Ctrl-C, which runs respect, and tests send.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
