"""An event file with the report's tables and figures, which TensorBoard shows beside the runs."""

import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

SUFFIX = ".report"
GROUP = "what the report shows"  # after the runs' metrics in the order of the alphabet


def write_events(folder: Path, figures: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    """Writes the figures, PNG files by name, and the texts, Markdown by name, in the place of an older event file."""
    # Only the report's own file is removed, since the folder may be a run's.
    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    writer, now = EventFileWriter(str(folder), filename_suffix=SUFFIX), time.time()
    for name, path in figures.items():
        png = path.read_bytes()
        width, height = struct.unpack(">II", png[16:24])  # of the header chunk, which comes first
        image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
        value = Summary.Value(tag=f"{GROUP}/{name}", image=image)
        writer.add_event(Event(wall_time=now, summary=Summary(value=[value])))
    for name, text in texts.items():
        writer.add_event(Event(wall_time=now, summary=text_pb(name, text)))
    writer.close()
