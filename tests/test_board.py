"""What TensorBoard and other programs find in a run."""

import shlex
from pathlib import Path

import pytest
import yaml
from conftest import SMALL, noise, spawn
from tbparse import SummaryReader
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.backend_context import Context
from test_fit import AT_THE_END, BY_EPOCH, summary_in

SESSION = "_hparams_/session_start_info"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("board")
    done = spawn(folder, "fit", *SMALL, "--trainer.max_epochs=2", "--trainer.accelerator=cpu")
    assert done.returncode == 0 and noise(done.stderr) == [], done.stderr
    (summary,) = folder.rglob("summary.json")
    return summary.parent


@pytest.fixture(scope="module")
def events(run) -> EventAccumulator:
    assert len(list(run.glob("events.*"))) == 1
    return EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()


def test_every_metric_is_read_into_a_data_frame_and_what_one_compares_is_on_a_page(run, events):
    assert set(events.Tags()["scalars"]) == BY_EPOCH | AT_THE_END
    frame, summary = SummaryReader(str(run)).scalars, summary_in(run)
    for name in BY_EPOCH | AT_THE_END:
        points = frame[frame["tag"] == name]
        assert list(points["step"]) == ([1, 2] if name in BY_EPOCH else [2]), name
        whole = summary["by_epoch"].get(name.replace("at a glance/test ", "val/"))
        assert whole is None or list(points["value"]) == pytest.approx(whole), name
    (tensor,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor.tensor_proto.string_val[0])
    shown = [tag for chart in layout.category[0].chart for tag in chart.multiline.tag]
    assert {"val/accuracy", "val/loss", "train/accuracy", "train/loss", "seconds/epoch"} < set(shown) <= BY_EPOCH


def session(events: EventAccumulator) -> dict[str, object]:
    """The row of a run in TensorBoard's table of hyperparameters, without its metrics."""
    content = events.SummaryMetadata(SESSION).plugin_data.content
    info = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}


def test_a_finished_run_is_a_row_of_hyperparameters(run, events):
    row, summary = session(events), summary_in(run)
    named = {"setup": "1xcpu", "batch_size": 480, "seed": 0, "data": "sample", "precision": "32-true", "epochs": 2}
    named |= {"channels": "[8, 16]", "hidden": 16, "dropout": "[0.25, 0.5]", "learning_rate": 1.0}
    assert row.items() >= (named | {"network": "MNISTClassifier", "accumulate_grad_batches": 1}).items()
    (rate,) = events.Scalars("summary/fp32_gflops")
    assert rate.value == pytest.approx(summary["calibration"]["after"]["fp32_gflops"])
    # The file of the run's own hyperparameters is not the table's.
    assert "precision" not in yaml.safe_load((run / "hparams.yaml").read_text())


def test_the_columns_of_hyperparameters_are_those_that_differ(run, command, tmp_path):
    """TensorBoard shows the first five of the settings and of the metrics, and hides the rest."""
    changed = ["--model.hidden=8", "--trainer.gradient_clip_val=1", "--trainer.max_epochs=1"]
    assert command("fit", *SMALL, *changed, "--trainer.accelerator=cpu") == 0
    (other,) = tmp_path.rglob("summary.json")
    multiplexer = EventMultiplexer({"two": str(run), "one": str(other.parent)}).Reload()
    table, asked = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, ""))), RequestContext()
    experiment = table.experiment_from_metadata(asked, "", True, table.hparams_metadata(asked, ""), [])
    assert [each.name for each in experiment.hparam_infos if each.differs] == ["epochs", "gradient_clip_val", "hidden"]
    shown = [each.name.tag for each in experiment.metric_infos][:5]
    assert shown[:2] == ["at a glance/test accuracy", "at a glance/test loss"]
    assert shown[2:] == ["images_per_second", "seconds/epoch", "seconds/fit"]
    # A run without one of the settings would not be drawn beside the others.
    rows = [session(EventAccumulator(str(each)).Reload()) for each in (run, other.parent)]
    assert rows[0].keys() == rows[1].keys()


def test_pictures_texts_and_graph_are_there(events):
    drawn = ("digits it got most wrong", "confusion matrix", "first filters")
    assert set(events.Tags()["images"]) == {f"what it learned/{name}" for name in drawn}
    for tag in events.Tags()["images"]:
        (image,) = events.Images(tag)
        assert image.step == 2 and image.width > 500 and image.height > 150
    tags = [tag for tag in events.Tags()["tensors"] if tag.endswith("/text_summary")]
    texts = {tag.partition("/")[0]: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags}
    assert texts.keys() == {"machine", "command"}
    assert all(f"| {name} | " in texts["machine"] for name in ("processor", "torch", "fp32_gflops"))
    typed = shlex.split(texts["command"].replace("\\\n", " "))
    assert typed[:5] == ["python", "-m", "mnist_lightning", "fit", "--data.source=sample"]
    nodes = {node.name for node in events.Graph().node}
    assert all(any(f"[{layer}]" in name for name in nodes) for layer in ("conv1", "conv2", "dense1", "dense2"))
