"""Evaluates a checkpoint on a split of a dataset, with TF-Slim's flags; prints Accuracy and Recall_5.

Without --dataset_name and --model_name the checkpoint is evaluated as it was trained, on the held-out split; with one
of them given, all other flags have TF-Slim's defaults.
"""
import sys

from training import config, console, flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `training.console.run`)."""
    argv = argv or sys.argv

    def work():
        settings = config.eval_config(flags.parse(config.EvalConfig, argv, __doc__))
        with console.quiet_tensorflow(settings.verbose_tensorflow):
            from training import evaluation
        evaluation.evaluate(settings)

    return console.run(work, argv[0])


if __name__ == '__main__':
    sys.exit(main())
