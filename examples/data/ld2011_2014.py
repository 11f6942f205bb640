"""A TFDS builder for UCI's ElectricityLoadDiagrams20112014, averaged to hours.

The file is one table: a row each quarter of an hour, a column each client, ``;``
between them, decimal commas, kW.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


class Ld2011_2014(tfds.core.GeneratorBasedBuilder):
    """Electricity demand of 370 clients in Portugal, 2011 to 2014."""

    name = "ld2011_2014"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download https://archive.ics.uci.edu/static/public/321/"
        "electricityloaddiagrams20112014.zip and unpack LD2011_2014.txt into "
        "manual_dir."
    )

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "client": tfds.features.Text(),
                    "demand": tfds.features.Tensor(
                        shape=(None,), dtype=np.float32, encoding="zlib"
                    ),
                }
            ),
            description=self.__doc__,
            homepage="https://archive.ics.uci.edu/dataset/321",
        )

    def _split_generators(self, dl_manager: Any) -> dict:
        # One split: the split in time is made by whoever cuts the windows.
        return {"train": self._generate_examples(dl_manager.manual_dir)}

    def _generate_examples(self, manual_dir: Any) -> Iterator[tuple[str, dict]]:
        clients, demand = read_hourly(Path(manual_dir) / "LD2011_2014.txt")
        for client, values in zip(clients, demand.T, strict=True):
            yield client, {"client": client, "demand": values}


def read_hourly(path: Path, block: int = 4 * 500) -> tuple[list[str], np.ndarray]:
    """Reads the table in blocks and averages each four quarters of an hour.

    Args:
      path: Of ``LD2011_2014.txt``.
      block: Rows in memory as text at once.

    Returns:
      The names of the clients, and kW of shape (hours, clients), float32.

    Raises:
      ValueError: If the file isn't such a table.
    """
    hours = []
    with open(path, encoding="utf-8") as lines:
        clients = [name.strip('"') for name in next(lines).strip().split(";")[1:]]
        if not clients or clients[0] != "MT_001":
            raise ValueError(f"{path} doesn't begin as LD2011_2014.txt does")
        while rows := list(itertools.islice(lines, block)):
            table = [
                row.strip().replace(",", ".").split(";")[1:] for row in rows if row[1:]
            ]
            values = np.array(table, np.float32)
            values = values[: len(values) // 4 * 4]
            hours.append(values.reshape(-1, 4, len(clients)).mean(1))
    return clients, np.concatenate(hours)
