"""The paper's program on today's Keras; `fit` as it is, validation aside."""

from keras_listing import digits, keras, network
from measure import Clock, arguments, time_and_report

options = arguments(__doc__, precisions=("fp32", "bf16"))
if options.precision == "bf16":
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
images, labels = digits(options.data_dir, "train")
model = network()


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
