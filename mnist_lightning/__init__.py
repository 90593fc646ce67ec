"""The paper's MNIST experiment as a PyTorch Lightning project."""
