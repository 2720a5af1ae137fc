"""ROS 1 bags (.bag) and ROS 2 bags (a folder with metadata.yaml), through rosbags; no ROS is needed."""

from __future__ import annotations

from pathlib import Path

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

from zoo.datasets.checks import DatasetValueError
from zoo.datasets.readers.messages import TopicBuilder, streams_of
from zoo.datasets.table import Streams


def read(path: Path) -> Streams:
    """Every topic whose messages hold numbers. Raises DatasetValueError for a damaged bag."""
    builders: dict[str, TopicBuilder] = {}
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
            for connection, stamp, data in reader.messages():
                builder = builders.setdefault(connection.topic, TopicBuilder(connection.topic))
                builder.add(stamp, reader.deserialize(data, connection.msgtype))
    except (AnyReaderError, KeyError, OSError) as error:
        raise DatasetValueError(f"{path.name} cannot be read as a bag ({error}): damaged or cut off.") from error
    return streams_of(path, builders)
