"""Writes the graph of a network for inference, without its weights, as TF-Slim's program of this name does.

    export_inference_graph.py --model_name=inception_v3 --output_file=inception_v3_inf_graph.pb

TensorFlow's `python -m tensorflow.python.tools.freeze_graph` joins it to a checkpoint. To export a trained network in
one step, checked, and in other formats too, there is export_image_classifier.py.
"""
import sys

from training import console, export_config, flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `training.console.run`)."""
    argv = argv or sys.argv

    def work():
        settings = export_config.InferenceGraphConfig(**flags.parse(export_config.InferenceGraphConfig, argv, __doc__))
        with console.quiet_tensorflow(settings.verbose_tensorflow):
            from training import exporting_graph
        exporting_graph.export_inference_graph(settings)

    return console.run(work, argv[0])


if __name__ == '__main__':
    sys.exit(main())
