"""Exports a trained network for those who serve it: SavedModel, TFLite, ONNX, OpenVINO, a frozen graph.

Each export is run by its own runtime on images, and compared with the checkpoint, before anything has its name: if one
does not answer as the checkpoint does, nothing is written. What a training knows need not be said again: give its
folder by --checkpoint_path (runs/digits if not set).
"""
import sys

from training import console, export_config, flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `training.console.run`)."""
    argv = argv or sys.argv

    def work():
        settings = export_config.export_config(flags.parse(export_config.ExportConfig, argv, __doc__))
        with console.quiet_tensorflow(settings.verbose_tensorflow):
            from training import exporting
        exporting.export(settings)

    return console.run(work, argv[0])


if __name__ == '__main__':
    sys.exit(main())
