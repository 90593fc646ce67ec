"""What the paper printed, as data: "Using GPUs for Convolutional Neural Network Training with Mnist Data-set" (2019)."""

BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
SETUPS = ("1xcpu", "1xgpu", "2xgpu")
EPOCHS = 10
TRAIN_IMAGES = 60_000
STEPS = tuple(EPOCHS * -(-TRAIN_IMAGES // size) for size in BATCH_SIZES)  # of a whole run
MACHINE = "2 x Intel Xeon E5-2670 v3 (48 threads), 128 GiB, 2 x Nvidia Tesla P100; Keras and TensorFlow"  # section IV.A

# Section II.B.
ARCHITECTURE = {"channels": (32, 64), "kernel_size": 3, "pool_size": 2, "hidden": 128, "dropout": (0.25, 0.5)}

# Tables I, II and III: a row a batch size, a column a setup.
SECONDS = {
    "1xcpu": (790.19, 640.23, 585.06, 556.50, 517.46, 512.07, 506.80),
    "1xgpu": (119.89, 68.56, 41.34, 28.07, 22.63, 19.14, 17.64),
    "2xgpu": (180.50, 94.22, 52.05, 30.85, 21.87, 17.79, 14.67),
}
ACCURACY = {
    "1xcpu": (0.9909, 0.9921, 0.9905, 0.9904, 0.9858, 0.9887, 0.9801),
    "1xgpu": (0.9900, 0.9917, 0.9918, 0.9916, 0.9909, 0.9891, 0.9841),
    "2xgpu": (0.9890, 0.9906, 0.9923, 0.9906, 0.9889, 0.9894, 0.9837),
}
LOSS = {
    "1xcpu": (0.02910, 0.02507, 0.02992, 0.02786, 0.04480, 0.03195, 0.05927),
    "1xgpu": (0.02925, 0.02829, 0.02671, 0.02716, 0.02679, 0.03194, 0.04666),
    "2xgpu": (0.03974, 0.02793, 0.02469, 0.02869, 0.03397, 0.03188, 0.05034),
}
