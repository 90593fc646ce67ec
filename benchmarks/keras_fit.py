"""The paper's program on today's Keras, whole: `model.fit` with its validations. Prints one JSON line; `keras_run.py` calls it."""

import argparse
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import tensorflow
from keras_listing import digits, keras, network

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--batch_size", type=int, required=True)
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--epochs", type=int, required=True)
parser.add_argument("--data_dir", type=Path, required=True)
options = parser.parse_args()


def untuned(pipeline: tensorflow.data.Options, made: Callable[..., None] = tensorflow.data.Options.__init__) -> None:
    made(pipeline)
    pipeline.autotune.enabled = False


# TensorFlow 2.21 tunes the pipeline of an epoch by a thread, for whose end it waits in the next epoch: idle, in most epochs,
# for up to 20 seconds, which says nothing of Keras's speed.
tensorflow.data.Options.__init__ = untuned

# Keras draws the seeds of its layers from Python's stream. With `keras.utils.set_random_seed`, which seeds TensorFlow, too, all
# epochs would have one order of the images (tensorflow issue 35682), where the paper's Keras shuffles before each.
random.seed(options.seed)
(images, labels), test = digits(options.data_dir, "train"), digits(options.data_dir, "t10k")
model = network()
marks: list[float] = []  # of each epoch: its begin, the begin of its validation, its end


class Marks(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        marks.append(perf_counter())

    def on_test_begin(self, logs: dict | None = None) -> None:
        marks.append(perf_counter())

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        marks.append(perf_counter())


before = perf_counter()
settings = {"batch_size": options.batch_size, "epochs": options.epochs, "validation_data": test, "verbose": 0}
history = model.fit(images, labels, callbacks=[Marks()], **settings).history
line = {
    "versions": {"keras": keras.__version__, "tensorflow": tensorflow.__version__},
    "parameters": model.count_params(),
    "seconds": perf_counter() - before,
    "train": [middle - begin for begin, middle in zip(marks[::3], marks[1::3], strict=True)],
    "epoch": [end - begin for begin, end in zip(marks[::3], marks[2::3], strict=True)],
    "history": history,
    "own": sum(os.times()[:2]),
}
print(json.dumps(line))
