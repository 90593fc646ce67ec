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
    ("batch_size", "steps"),
    [(32, 1875), (64, 938), (128, 469), (256, 235), (512, 118), (1024, 59), (2048, 30)],
)
def test_an_epoch_of_mnist_has_the_papers_steps(batch_size, steps):
    sampler = GlobalBatchSampler(60_000, batch_size, shuffle=True)
    assert len(sampler) == steps
    assert sum(1 for _ in sampler) == steps


@pytest.mark.parametrize(
    ("images", "batch_size", "devices"), [(4001, 96, 3), (1000, 128, 2), (97, 96, 3), (10, 8, 8), (96, 96, 4)]
)
def test_devices_share_the_batches_of_one_device(images, batch_size, devices):
    (alone,) = deal(images, batch_size, 1, epoch=5)
    shares = deal(images, batch_size, devices, epoch=5)
    assert {len(share) for share in shares} == {len(alone)}
    for step, batch in enumerate(alone):
        together = torch.full((batch.size,), -1)
        for share in shares:
            assert share[step].size == batch.size
            together[share[step].rows] = share[step].indices
        assert together.tolist() == batch.indices.tolist()
    assert sorted(torch.cat([batch.indices for batch in alone]).tolist()) == list(range(images))


@settings(max_examples=200, deadline=None)
@given(
    images=st.integers(1, 400),
    share=st.integers(1, 60),
    devices=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 1000),
    shuffle=st.booleans(),
)
def test_any_number_of_devices_deals_the_batches_of_one(images, share, devices, seed, epoch, shuffle):
    how = {"epoch": epoch, "seed": seed, "shuffle": shuffle}
    (alone,) = deal(images, share * devices, 1, **how)
    shares = deal(images, share * devices, devices, **how)
    assert {len(each) for each in shares} == {-(-images // (share * devices))}
    for step, batch in enumerate(alone):
        indices = torch.cat([each[step].indices for each in shares])
        rows = torch.cat([each[step].rows for each in shares])
        assert rows.sort().values.tolist() == list(range(batch.size))
        assert indices[rows.argsort()].tolist() == batch.indices.tolist()
    assert sorted(torch.cat([batch.indices for batch in alone]).tolist()) == list(range(images))


def test_a_last_batch_of_one_leaves_the_other_devices_an_empty_share():
    shares = deal(97, 96, 3)
    assert [len(share[-1].indices) for share in shares] == [1, 0, 0]
    assert [share[-1].size for share in shares] == [1, 1, 1]


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(**options):
        return torch.cat([share.indices for share in deal(500, 64, 1, **options)[0]]).tolist()

    assert order(epoch=3, seed=1) == order(epoch=3, seed=1)
    assert order(epoch=3, seed=1) != order(epoch=4, seed=1)
    assert order(epoch=3, seed=1) != order(epoch=3, seed=2)
    assert order(shuffle=False) == list(range(500))
