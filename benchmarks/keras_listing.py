"""The paper's listing on today's Keras: its data and its network."""

import gzip
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import keras
from keras import layers


def digits(data_dir: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, float32 [n, 28, 28, 1] from 0 to 1, and labels, [n, 10], of the part `train` or `t10k`."""
    raw = data_dir / "MNIST" / "raw"
    images = _read(raw / f"{part}-images-idx3-ubyte", 16).reshape(-1, 28, 28, 1).astype("float32")
    images /= 255
    return images, keras.utils.to_categorical(_read(raw / f"{part}-labels-idx1-ubyte", 8), 10)


def network() -> keras.Sequential:
    """The network with its loss, its metric and its optimiser, which has the defaults of Keras in 2019."""
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
    adadelta = keras.optimizers.Adadelta(learning_rate=1.0, rho=0.95, epsilon=1e-7)
    model.compile(loss="categorical_crossentropy", optimizer=adadelta, metrics=["accuracy"])
    return model


def _read(path: Path, header: int) -> np.ndarray:
    """The bytes of an IDX file, gzipped or not, behind its header."""
    if path.exists():
        return np.frombuffer(path.read_bytes(), np.uint8, offset=header)
    return np.frombuffer(gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()), np.uint8, offset=header)
