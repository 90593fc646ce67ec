"""What TensorBoard and other programs find in a run."""

import json
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from conftest import QUICK, noise, spawn
from tbparse import SummaryReader
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.backend_context import Context

from mnist_lightning.callbacks import WallClock
from mnist_lightning.views import board, pictures

METRICS = {
    *("train/loss", "train/accuracy", "val/loss", "val/accuracy"),
    *("seconds/train_epoch", "seconds/val_epoch", "seconds/epoch", "images_per_second"),
    *("seconds/fit", "seconds/warm_up"),
}
GLANCE = {"at a glance/test accuracy", "at a glance/test loss"}
METRICS |= GLANCE
FINAL = {"summary/fp32_gflops"}
SESSION = "_hparams_/session_start_info"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("board")
    done = spawn(folder, "fit", *QUICK, "--trainer.max_epochs=2", "--trainer.accelerator=cpu")
    assert done.returncode == 0 and noise(done.stderr) == [], done.stderr
    (summary,) = folder.rglob("summary.json")
    return summary.parent


@pytest.fixture(scope="module")
def events(run) -> EventAccumulator:
    assert len(list(run.glob("events.*"))) == 1
    return EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()


def test_every_metric_is_read_by_tensorboard_and_into_a_data_frame(run, events):
    assert set(events.Tags()["scalars"]) == METRICS | FINAL
    frame = SummaryReader(str(run)).scalars
    assert set(frame["tag"]) == METRICS | FINAL
    summary = json.loads((run / "summary.json").read_text())
    for name in ("val/accuracy", "val/loss"):
        points = frame[frame["tag"] == name]
        assert list(points["step"]) == [1, 2]
        assert list(points["value"]) == pytest.approx(summary["by_epoch"][name])


def test_a_layout_puts_what_one_compares_on_a_page(run, events):
    (tensor,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor.tensor_proto.string_val[0])
    charts = [(chart.title, list(chart.multiline.tag)) for chart in layout.category[0].chart]
    assert [title for title, _ in charts] == [
        "test accuracy",
        "test loss",
        "training accuracy",
        "training loss",
        "seconds an epoch",
        "training images a second",
    ]
    assert {tag for _, tags in charts for tag in tags} <= METRICS


def session(events: EventAccumulator) -> dict[str, object]:
    """The row of a run in TensorBoard's table of hyperparameters, without its metrics."""
    content = events.SummaryMetadata(SESSION).plugin_data.content
    info = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}


def test_a_finished_run_is_a_row_of_hyperparameters(run, events):
    summary = json.loads((run / "summary.json").read_text())
    row = session(events)
    named = {"setup": "1xcpu", "batch_size": 480, "seed": 0, "data": "sample", "precision": "32-true", "epochs": 2}
    assert row.items() >= named.items()
    model = {"channels": "[4, 8]", "hidden": 16, "dropout": "[0.25, 0.5]", "learning_rate": 1.0}
    assert row.items() >= {**model, "network": "MNISTClassifier", "accumulate_grad_batches": 1}.items()
    for name in ("accuracy", "loss"):
        points = [(point.step, point.value) for point in events.Scalars(f"at a glance/test {name}")]
        assert points == [(point.step, point.value) for point in events.Scalars(f"val/{name}")]
    (rate,) = events.Scalars("summary/fp32_gflops")
    assert (rate.step, rate.value) == (2, pytest.approx(summary["calibration"]["after"]["fp32_gflops"]))
    # The file of the run's own hyperparameters is not the table's.
    assert "precision" not in yaml.safe_load((run / "hparams.yaml").read_text())


def test_the_columns_of_hyperparameters_are_those_that_differ(run, command, tmp_path):
    """TensorBoard shows the first five of the settings and of the metrics, and hides the rest."""
    changed = ["--model.hidden=8", "--trainer.gradient_clip_val=1", "--trainer.max_epochs=1"]
    assert command("fit", *QUICK, *changed, "--trainer.accelerator=cpu") == 0
    (other,) = tmp_path.rglob("summary.json")
    multiplexer = EventMultiplexer({"two": str(run), "one": str(other.parent)}).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    table = Context(TBContext(data_provider=provider))
    asked = RequestContext()
    experiment = table.experiment_from_metadata(asked, "", True, table.hparams_metadata(asked, ""), [])
    assert [each.name for each in experiment.hparam_infos if each.differs] == ["epochs", "gradient_clip_val", "hidden"]
    shown = [each.name.tag for each in experiment.metric_infos][:5]
    assert shown == [*sorted(GLANCE), "images_per_second", "seconds/epoch", "seconds/fit"]
    # A run without one of the settings would not be drawn beside the others.
    rows = [session(EventAccumulator(str(each)).Reload()) for each in (run, other.parent)]
    assert rows[0].keys() == rows[1].keys()


def test_an_unfinished_run_has_no_row(command, tmp_path, monkeypatch):
    ended = WallClock.on_train_epoch_end

    def fail(self, trainer, module):
        ended(self, trainer, module)
        if trainer.current_epoch == 1:
            raise OSError("no more")

    monkeypatch.setattr(WallClock, "on_train_epoch_end", fail)
    assert command("fit", *QUICK, "--trainer.max_epochs=3", "--trainer.accelerator=cpu") == 2
    (folder,) = tmp_path.glob("logs/*/*/*/*")
    events = EventAccumulator(str(folder)).Reload()
    tags = set(events.Tags()["scalars"])
    assert "val/accuracy" in tags and not FINAL & tags
    assert SESSION not in events.summary_metadata
    assert events.Tags()["images"] == []


def test_pictures_texts_and_graph_are_there(run, events):
    assert set(events.Tags()["images"]) == {
        f"what it learned/{name}" for name in ("digits it got most wrong", "confusion matrix", "first filters")
    }
    for tag in events.Tags()["images"]:
        (image,) = events.Images(tag)
        assert image.step == 2 and image.width > 500 and image.height > 150
    texts = {
        tag.removesuffix("/text_summary"): events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in events.Tags()["tensors"]
        if tag.endswith("/text_summary")
    }
    assert set(texts) == {"machine", "command", "config"}
    assert all(f"| {name} | " in texts["machine"] for name in ("processor", "torch", "pinning", "fp32_gflops"))
    command = shlex.split(texts["command"].replace("\\\n", " "))
    assert command[:5] == ["python", "-m", "mnist_lightning", "fit", "--data.source=sample"]
    indented = "\n".join(line[4:] for line in texts["config"].splitlines())
    assert yaml.safe_load(indented) == yaml.safe_load((run / "config.yaml").read_text())
    nodes = {node.name for node in events.Graph().node}
    for layer in ("conv1", "conv2", "dense1", "dense2"):
        assert any(f"[{layer}]" in name for name in nodes), layer


def test_the_worst_digits_come_first():
    labels = torch.tensor([4, 7, 1, 2])
    probabilities = torch.full((4, 10), 0.0)
    for row, (own, said, sure) in enumerate([(4, 9, 0.7), (7, 7, 1.0), (1, 8, 0.99), (2, 0, 0.6)]):
        probabilities[row, own] = 1 - sure
        probabilities[row, said] = sure
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1).expand(4, 28, 28)
    figure = pictures.worst_digits(images, labels, probabilities)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["1 → 8\n99%", "4 → 9\n70%", "2 → 0\n60%"]
    # A tile lies below its text.
    shown = axes.images[0].get_array()
    below = [int(shown[round(y) + 10, round(x)]) for x, y in (text.get_position() for text in axes.texts)]
    assert below == [2, 0, 3]
    assert "the worst 3 of 3" in axes.get_title()
    assert pictures.worst_digits(images[1:2], labels[1:2], probabilities[1:2]) is None


def test_the_confusion_matrix_counts_every_image():
    labels, predictions = torch.tensor([0, 0, 0, 5, 5, 9]), torch.tensor([0, 0, 6, 5, 3, 9])
    (axes,) = pictures.confusion(labels, predictions).axes
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "2", (6, 0): "1", (5, 5): "1", (3, 5): "1", (9, 9): "1"}
    assert axes.get_title() == "4 of 6 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("prediction", "label")


def test_the_filters_are_the_weights():
    weights = torch.randn(9, 1, 3, 3)
    (image,) = pictures.filters(weights).axes[0].images
    shown = torch.tensor(image.get_array().filled(float("nan")))
    found = shown[~shown.isnan()]
    assert sorted(found.tolist()) == pytest.approx(sorted(weights.flatten().tolist()))
    # Eight in a row, a pixel apart, below a gap of one.
    assert torch.equal(shown[1:4, 4:7], weights[1, 0]) and torch.equal(shown[5:8, 0:3], weights[8, 0])
    assert image.get_clim() == (-float(weights.abs().max()), float(weights.abs().max()))


def test_the_layout_names_metrics_that_are_written():
    charts = board.LAYOUT["what one compares"].values()
    assert {tag for _, tags in charts for tag in tags} <= METRICS
