import hashlib
import itertools

import pytest
import torch

from mnist_lightning.dropout import draw_keys, dropout, keep_mask, random_words

CPU = torch.device("cpu")
KEY = draw_keys(0, 0, 0, CPU)[0]


def test_words_are_the_published_stream_of_splitmix64():
    # The first numbers for the seed 1234567, as the generator's public test vectors list them.
    words = random_words(torch.arange(2), 3, torch.tensor(1234567)).flatten()[1:]
    published = 6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821
    assert tuple(word % 2**64 for word in words.tolist()) == published


@pytest.mark.parametrize(
    ("units", "rate", "digest"),
    [(9216, 0.25, "1a444dac8572f160"), (128, 0.5, "bb98e9db3a664edd"), (100, 0.3, "c2dcc23efd0f3c60")],
)
def test_the_masks_of_a_seed_stay_what_they_are(units, rate, digest):
    """The committed results are of these masks. The first key is of the pooled units, the second of the hidden ones."""
    key = draw_keys(3, 4, 1500, CPU)[units != 9216]
    mask = keep_mask(torch.tensor([5, 0, 2047]), units, rate, key)
    assert hashlib.sha256(mask.numpy().tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.3, 0.001])
def test_each_unit_is_dropped_with_the_rate_and_independently(rate):
    keep = keep_mask(torch.arange(1000), 999, rate, KEY).double()
    sigma = (rate * (1 - rate)) ** 0.5
    centred = (keep - (1 - rate)) / sigma
    assert keep.shape == (1000, 999)
    assert abs(centred.mean()) * keep.numel() ** 0.5 < 4.5
    # Each row and column on its own, and neighbours against each other: sums of independent units are normal.
    for sums in (centred.mean(1) * 999**0.5, centred.mean(0) * 1000**0.5):
        assert 0.85 < sums.var() < 1.15
    neighbours = (centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1]), (centred[:, 8:], centred[:, :-8])
    for a, b in neighbours:
        assert abs((a * b).mean()) * a.numel() ** 0.5 < 4.5


@pytest.mark.parametrize("units", [1, 7, 8, 9, 128])
@pytest.mark.parametrize("rate", [0.25, 0.3])
def test_an_image_has_its_mask_whoever_draws_it(units, rate):
    """A device may have any images of a batch, or none, and a word has the bytes of more than one unit."""
    everyone = keep_mask(torch.arange(9), units, rate, KEY)
    for images in range(4):
        rows = torch.arange(9)[::3][:images]
        assert torch.equal(keep_mask(rows, units, rate, KEY), everyone[rows])


def test_seed_epoch_step_and_layer_each_draw_anew():
    """Steps 2 and 1026 are in two blocks of keys that are made at once."""
    draws = [draw_keys(1, 2, 2, CPU), draw_keys(0, 2, 2, CPU), draw_keys(1, 0, 2, CPU), draw_keys(1, 2, 1026, CPU)]
    keys = [*draws[0], *(draw[0] for draw in draws[1:]), draw_keys(1, 2, 3, CPU)[0]]
    masks = [keep_mask(torch.arange(8), 512, 0.5, key) for key in keys]
    for one, other in itertools.combinations(masks, 2):
        assert 0.4 < (one == other).double().mean() < 0.6


def test_no_two_steps_of_a_long_run_share_a_key():
    keys = {int(key) for epoch in range(10) for step in range(1875) for key in draw_keys(0, epoch, step, CPU)}
    assert len(keys) == 10 * 1875 * 2


def test_kept_units_are_scaled_and_gradients_follow():
    x = torch.rand(4, 100, dtype=torch.float64, requires_grad=True)
    rows, key = torch.arange(4), KEY
    keep = keep_mask(rows, 100, 0.25, key)
    y = dropout(x, 0.25, rows, key)
    y.sum().backward()
    assert torch.allclose(y, keep * x / 0.75, rtol=1e-15)
    assert torch.allclose(x.grad, keep.double() / 0.75, rtol=1e-15)
    assert dropout(x, 0, rows, key) is x
