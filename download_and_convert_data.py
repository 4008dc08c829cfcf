"""Downloads a dataset, or reads a folder of your own images, and converts it into TFRecord files of TF-Slim's layout.

    download_and_convert_data.py --dataset_name=flowers --dataset_dir=data/flowers
    download_and_convert_data.py --dataset_name=birds --source_dir=photos --dataset_dir=data/birds

A conversion that was stopped goes on where it was. NAME_report.csv tells which images had to be left out or changed.
"""
import sys

from training import console, convert_config, flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `training.console.run`)."""
    argv = argv or sys.argv

    def work():
        settings = convert_config.ConvertConfig(**flags.parse(convert_config.ConvertConfig, argv, __doc__))
        with console.quiet_tensorflow(settings.verbose_tensorflow):
            import tensorflow  # noqa: F401

            from training import conversion
        conversion.convert(settings)

    return console.run(work, argv[0])


if __name__ == '__main__':
    sys.exit(main())
