"""`python -m nets` lists the networks, `python -m nets 'inception*'` those of a pattern.

`python -m nets inception_v1` says what each endpoint costs. This is a script, as those beside the packages are.
"""
import argparse
import sys

from nets import names, registry
from training import arguments, console


def main(args: list[str] | None = None) -> int:
    """Prints the list, or the summary of one network; returns the exit code (see `training.console.run`)."""
    parser = arguments.Parser('python -m nets', description='Lists the networks, or summarizes one.')
    parser.add_argument('network', nargs='?', help='name of a network; a pattern, or none, lists them')
    parser.add_argument('--image_size', type=_count, help="height and width in pixels (the network's default)")
    parser.add_argument('--num_classes', type=_count, help='number of classes (that of the published weights)')
    parser.add_argument('--with', dest='switches', nargs='+', default=[], metavar='SWITCH',
                        help='arguments of the network to set, such as global_pool or true_5x5')
    options = parser.parse_args(args)
    several = not options.network or set('*?[').intersection(options.network)
    if several and (options.image_size or options.num_classes or options.switches):
        parser.error('these options are of one network: name it, before --with')

    def work():
        try:
            print(listing(options.network or '*') if several else summary(options))
        except ValueError as error:
            raise console.RunError(str(error)) from None

    return console.run(work, parser.prog)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 1')
    return int(text)


def listing(pattern: str = '*') -> str:
    """Returns a line for each network of a pattern."""
    found = registry.list_models(pattern)
    if not found:
        raise names.unknown('network', pattern, registry.NETWORKS)
    lines = [f'{"network":32}{"size":>4}{"classes":>8}{"parameters":>11}{"multiply-adds":>14}{"top-1":>7}{"top-5":>7}'
             f'{"at":>5}  paper']
    for row in map(registry.get, found):
        parameters, multiply_adds = (f'{count / 1e6:,.1f}M' if count else '-'
                                     for count in (row.parameters, row.multiply_adds))
        top_1, top_5 = (f'{top}%' if top else '-' for top in (row.top_1, row.top_5))
        at = row.eval_image_size or row.default_image_size if row.top_1 else '-'
        lines.append(f'{row.name:32}{row.default_image_size:4}{row.num_classes:8}{parameters:>11}{multiply_adds:>14}'
                     f'{top_1:>7}{top_5:>7}{at:>5}  {row.paper}')
    return '\n'.join(lines)


def summary(options: argparse.Namespace) -> str:
    """Returns the table of one network; only this starts TensorFlow."""
    registry.get(options.network)
    with console.quiet_tensorflow(verbose=False):
        from nets.summary import format_rows, summarize_network
    return format_rows(summarize_network(options.network, options.image_size, options.num_classes, options.switches))


if __name__ == '__main__':
    sys.exit(main())
