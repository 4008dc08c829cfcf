"""Makes a TF-Slim checkpoint of weights from elsewhere: Keras Applications, torchvision, timm, frozen graphs.

    import_weights.py --checkpoint_path=inception_v3_notop.h5 --model_name=inception_v3 --output_dir=runs/imported

The other way round, --export_path writes a checkpoint's weights for Keras Applications.
"""
import sys

from training import console, flags, importing


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `training.console.run`)."""
    argv = argv or sys.argv

    def work():
        settings = importing.ImportConfig(**flags.parse(importing.ImportConfig, argv, __doc__))
        with console.quiet_tensorflow(settings.verbose_tensorflow):
            import tensorflow  # noqa: F401
        importing.import_weights(settings)

    return console.run(work, argv[0])


if __name__ == '__main__':
    sys.exit(main())
