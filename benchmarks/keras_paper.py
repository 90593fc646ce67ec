"""The paper's program on today's Keras; `fit` as it is, validation aside."""

import gzip
import os
from pathlib import Path

import numpy as np
from measure import Clock, arguments, time_and_report

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import keras
from keras import layers


def read(path: Path, header: int) -> np.ndarray:
    """The bytes of an IDX file, gzipped or not, behind its header."""
    if path.exists():
        return np.frombuffer(path.read_bytes(), np.uint8, offset=header)
    return np.frombuffer(gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()), np.uint8, offset=header)


options = arguments(__doc__, precisions=("fp32", "bf16"))
if options.precision == "bf16":
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
raw = options.data_dir / "MNIST" / "raw"
images = read(raw / "train-images-idx3-ubyte", 16).reshape(-1, 28, 28, 1).astype("float32")
images /= 255
labels = keras.utils.to_categorical(read(raw / "train-labels-idx1-ubyte", 8), 10)

model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, (3, 3), activation="relu"),
        layers.Conv2D(64, (3, 3), activation="relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax", dtype="float32"),
    ]
)
model.compile(
    loss="categorical_crossentropy",
    optimizer=keras.optimizers.Adadelta(learning_rate=1.0, rho=0.95, epsilon=1e-7),
    metrics=["accuracy"],
)


class Steps(keras.callbacks.Callback):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.clock.step()


def fit(steps: int, clock: Clock) -> None:
    count = steps * options.batch_size
    steps_of = [Steps(clock)]
    model.fit(images[:count], labels[:count], batch_size=options.batch_size, epochs=1, verbose=0, callbacks=steps_of)


time_and_report(fit, options)
