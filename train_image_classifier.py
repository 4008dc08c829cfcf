"""Trains a network of the zoo, with TF-Slim's flags.

With no flags it trains Inception V1 on the embedded digits; once --dataset_name or --model_name is given, all other
flags have TF-Slim's defaults. A run whose --train_dir holds a checkpoint goes on from there.
"""
import shlex
import sys

from training import config, console, flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `training.console.run`)."""
    argv = argv or sys.argv

    def work():
        settings = config.train_config(flags.parse(config.TrainConfig, argv, __doc__))
        with console.quiet_tensorflow(settings.verbose_tensorflow):
            from training import distribution, loop
        try:
            checkpoint = loop.train(settings)
        except distribution.WorkerLost as lost:
            distribution.restart(lost)
            raise
        # The program's neighbour: a script of the checkout, or an installed command.
        evaluate = argv[0].replace('train_image', 'eval_image')
        python = 'python ' if evaluate.endswith('.py') else ''
        folder = shlex.quote(settings.train_dir)
        print(f'Trained; the last checkpoint is {checkpoint}.\n'
              f'Next: {python}{evaluate} --checkpoint_path={folder}\n'
              f'      tensorboard --logdir={folder}  (pip install tensorboard)')

    return console.run(work, argv[0])


if __name__ == '__main__':
    sys.exit(main())
