"""`python -m nets` lists the networks; `python -m nets inception_v1` says what each endpoint costs."""
import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

from nets import registry


def main(args: list[str] | None = None) -> None:
    """Prints the list, or the summary of one network; an error is one sentence, exit code 1."""
    parser = argparse.ArgumentParser('python -m nets', description='Lists the networks, or summarizes one.')
    parser.add_argument('network', nargs='?', help='name of a network; none lists them all')
    parser.add_argument('--image_size', type=_count, help="height and width in pixels (the network's default)")
    parser.add_argument('--num_classes', type=_count, help='number of classes (that of the published weights)')
    parser.add_argument('--with', dest='switches', nargs='+', default=[], metavar='SWITCH',
                        help='arguments of the network to set, such as global_pool or true_5x5')
    options = parser.parse_args(args)
    if not options.network and (options.image_size or options.num_classes or options.switches):
        parser.error('these options are of one network: name it, before --with')
    try:
        print(summary(options) if options.network else listing())
    except ValueError as error:
        sys.exit(str(error))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 1')
    return int(text)


def listing() -> str:
    """Returns a line a network."""
    lines = [f'{"network":24}{"size":>5}{"classes":>9}{"top-1":>7}{"top-5":>7}  paper']
    for row in registry.NETWORKS.values():
        top_1, top_5 = (f'{top}%' if top else '-' for top in (row.top_1, row.top_5))
        lines.append(f'{row.name:24}{row.default_image_size:5}{row.num_classes:9}{top_1:>7}{top_5:>7}  {row.paper}')
    return '\n'.join(lines)


def summary(options: argparse.Namespace) -> str:
    """Returns the table of one network; only this starts TensorFlow."""
    registry.get(options.network)
    with _hidden_stderr():
        from nets.summary import format_rows, summarize_network
    return format_rows(summarize_network(options.network, options.image_size, options.num_classes, options.switches))


@contextlib.contextmanager
def _hidden_stderr() -> Iterator[None]:
    # TensorFlow writes its start-up messages to file descriptor 2 before any logger can be told to hold them.
    kept = os.dup(2)
    try:
        with open(os.devnull, 'w') as hidden:
            os.dup2(hidden.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


if __name__ == '__main__':
    main()
