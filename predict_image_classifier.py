"""Tells what is on images: the most probable classes of each, with their names and probabilities.

The images are files, or folders of any depth; - reads the names of files from standard input, a line each, or one image
itself. What a training knows need not be said again: give its folder by --checkpoint_path (runs/digits if not set).
"""
import sys

from training import classifier_config, console, flags, predict_config


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `training.console.run`)."""
    argv = argv or sys.argv

    def work():
        given, images = flags.parse_with_operands(predict_config.PredictConfig, argv, __doc__, 'IMAGE_OR_FOLDER ...')
        settings = classifier_config.classifier_config(predict_config.PredictConfig, given)
        predict_config.check_images(images)
        with console.quiet_tensorflow(settings.verbose_tensorflow):
            from training import prediction
        prediction.predict(settings, images)

    return console.run(work, argv[0])


if __name__ == '__main__':
    sys.exit(main())
