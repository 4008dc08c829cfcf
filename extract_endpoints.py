"""Writes the values of a network's endpoints for many images: features, by name, in files of many images each.

The images are those of a folder, of a list of files, or of a dataset. An extraction that was stopped goes on where it
was; several workers can share one. index.json in --output_dir tells what is in the files.
"""
import sys

from training import console, extract_config, flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `training.console.run`)."""
    argv = argv or sys.argv

    def work():
        settings = extract_config.extract_config(flags.parse(extract_config.ExtractConfig, argv, __doc__))
        with console.quiet_tensorflow(settings.verbose_tensorflow):
            from training import extraction
        if settings.plot:
            from training import feature_maps

            feature_maps.plot(settings)
        else:
            extraction.extract(settings, own_process=True)

    return console.run(work, argv[0])


if __name__ == '__main__':
    sys.exit(main())
