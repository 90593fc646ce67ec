import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_lightning.sampler import GlobalBatchSampler


def deal(images: int, batch_size: int, devices: int, epoch: int = 0, shuffle: bool = True, seed: int = 0):
    samplers = [GlobalBatchSampler(images, batch_size, shuffle, seed, d, devices) for d in range(devices)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


@pytest.mark.parametrize(
    ("batch_size", "steps"), [(32, 1875), (64, 938), (128, 469), (256, 235), (512, 118), (1024, 59), (2048, 30)]
)
def test_an_epoch_of_mnist_has_the_papers_steps(batch_size, steps):
    sampler = GlobalBatchSampler(60_000, batch_size, shuffle=True)
    assert len(sampler) == len(list(sampler)) == steps


@settings(max_examples=200, deadline=None)
@given(
    images=st.integers(1, 400),
    batch_size=st.integers(1, 200),
    devices=st.integers(1, 9),  # more than there are images in a last batch: some have none
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 1000),
    shuffle=st.booleans(),
)
def test_any_number_of_devices_deals_the_batches_of_one(images, batch_size, devices, seed, epoch, shuffle):
    how = {"epoch": epoch, "seed": seed, "shuffle": shuffle}
    (alone,) = deal(images, batch_size, 1, **how)
    shares = deal(images, batch_size, devices, **how)
    assert {len(each) for each in shares} == {-(-images // batch_size)}
    for step, batch in enumerate(alone):
        assert {each[step].size for each in shares} == {batch.size}
        rows, indices = (torch.cat([getattr(each[step], name) for each in shares]) for name in ("rows", "indices"))
        assert rows.sort().values.tolist() == list(range(batch.size))
        assert indices[rows.argsort()].tolist() == batch.indices.tolist()
    assert sorted(torch.cat([batch.indices for batch in alone]).tolist()) == list(range(images))


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(**options):
        return torch.cat([share.indices for share in deal(500, 64, 1, **options)[0]]).tolist()

    assert order(epoch=3, seed=1) == order(epoch=3, seed=1)
    assert order(epoch=3, seed=1) != order(epoch=4, seed=1)
    assert order(epoch=3, seed=1) != order(epoch=3, seed=2)
    assert order(shuffle=False) == list(range(500))
