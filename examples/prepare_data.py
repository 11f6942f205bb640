"""Downloads a data set and prepares it for the other scripts, once.

  python examples/prepare_data.py cifar10 --data-dir ~/tensorflow_datasets

The built-in data sets (mnist, fashion_mnist, cifar10, cifar100, imdb_reviews) need
`pip install tensorflow-cpu` for this step alone; the scripts read the result without
it. ld2011_2014 needs no TensorFlow, but LD2011_2014.txt in --manual-dir.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from data import prepared

NAMES = (
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "imdb_reviews",
    "ld2011_2014",
    "mnist",
)


def main(args: list[str] | None = None) -> None:
    """Prepares the data set named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data-dir", type=Path, default=prepared.default_dir())
    parser.add_argument("--manual-dir", type=Path, help="holds LD2011_2014.txt")
    chosen = parser.parse_args(args)
    import tensorflow_datasets as tfds

    if chosen.name == "ld2011_2014":
        import data.ld2011_2014 as ld

        if chosen.manual_dir is None or not list(chosen.manual_dir.glob("LD2011*")):
            parser.error(ld.Ld2011_2014.MANUAL_DOWNLOAD_INSTRUCTIONS)
    elif find_spec("tensorflow") is None:
        parser.error(f"preparing {chosen.name} needs: pip install tensorflow-cpu")
    builder = tfds.builder(
        chosen.name, data_dir=chosen.data_dir, file_format="array_record"
    )
    config = tfds.download.DownloadConfig(
        manual_dir=chosen.manual_dir and str(chosen.manual_dir)
    )
    builder.download_and_prepare(download_config=config)
    print(f"{builder.info.full_name} is ready in {chosen.data_dir}")


if __name__ == "__main__":
    main()
