"""MCAP files: ROS 2 messages through mcap-ros2-support, and messages of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from zoo.datasets.checks import DatasetValueError
from zoo.datasets.readers.messages import TopicBuilder, streams_of
from zoo.datasets.table import Streams


def read(path: Path) -> Streams:
    """Every topic whose messages hold numbers. Raises DatasetValueError for a damaged file."""
    builders: dict[str, TopicBuilder] = {}
    decoders = {}
    factory = DecoderFactory()
    try:
        with path.open("rb") as file:
            for schema, channel, message in make_reader(file).iter_messages(log_time_order=True):
                if channel.id not in decoders:
                    decoder = factory.decoder_for(channel.message_encoding, schema)
                    decoders[channel.id] = _json if channel.message_encoding == "json" else decoder
                if decode := decoders[channel.id]:
                    builder = builders.setdefault(channel.topic, TopicBuilder(channel.topic))
                    builder.add(message.log_time, decode(message.data))
    except (McapError, ValueError, EOFError, OSError) as error:
        if isinstance(error, DatasetValueError):
            raise
        raise DatasetValueError(f"{path.name} cannot be read as MCAP ({error!r}): it is damaged or cut off.") from error
    return streams_of(path, builders)


def _json(data: bytes) -> SimpleNamespace:
    value: SimpleNamespace = json.loads(data, object_hook=lambda values: SimpleNamespace(**values))
    return value
