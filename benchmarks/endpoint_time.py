"""What an endpoint costs, beside that part of the network alone and beside all of it.

    python benchmarks/endpoint_time.py --network inception_v1 --endpoints Conv2d_2c_3x3 Mixed_3c Mixed_4e --batch_size 8

Four ways, which take turns; the figures are medians in milliseconds for a batch, and their ratio to the part alone:
`part` is a model that is cut there (`final_endpoint`), `endpoints` is `model.endpoints` of the whole model, `graph`
runs the endpoint of a TF1 graph in a session, and `logits` is the whole network.
"""
import argparse
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main() -> None:
    """Measures and prints a line for each endpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--network', default='inception_v1')
    parser.add_argument('--endpoints', nargs='+', default=['Conv2d_2c_3x3', 'Mixed_3c', 'Mixed_4e', 'Mixed_5c'])
    parser.add_argument('--batch_size', type=int, default=8)
    parser.add_argument('--image_size', type=int, help="the network's default if not given")
    parser.add_argument('--repeats', type=int, default=20)
    args = parser.parse_args()

    sys.path.append(str(ROOT))
    import tensorflow as tf

    import nets
    from nets import nets_factory, registry
    size = args.image_size or registry.get(args.network).default_image_size
    model = nets.create_model(args.network, 1000, image_size=size)
    images = tf.random.stateless_uniform([args.batch_size, size, size, model.channels], [0, 0], -1, 1)
    with tf.Graph().as_default() as graph:
        placeholder = tf.compat.v1.placeholder(tf.float32, images.shape)
        _, end_points = nets_factory.get_network_fn(args.network, 1000)(placeholder)
        initializer = tf.compat.v1.global_variables_initializer()
    session = tf.compat.v1.Session(graph=graph)
    session.run(initializer)
    fed = images.numpy()

    print(f'{args.network}, {args.batch_size} images of {size}x{size}, {args.repeats} repeats: milliseconds (ratio)')
    print(f'{"endpoint":16}' + ''.join(f'{way:>16}' for way in ('part', 'endpoints', 'graph', 'logits')))
    for endpoint in args.endpoints:
        part = nets.create_model(args.network, image_size=size, final_endpoint=endpoint)
        ways = {'part': lambda part=part: part(images).numpy(),
                'endpoints': lambda name=endpoint: model.endpoints(images, name)[name].numpy(),
                'graph': lambda name=endpoint: session.run(end_points[name], {placeholder: fed}),
                'logits': lambda: model(images).numpy()}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(-3, args.repeats):      # the first ones trace, and are not counted
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                if repeat >= 0:
                    times[way].append(1000 * (time.perf_counter() - start))
        medians = {way: statistics.median(values) for way, values in times.items()}
        print(f'{endpoint:16}' + ''.join(
            f'{value:9.1f} ({value / medians["part"]:4.2f})' for value in medians.values()))


if __name__ == '__main__':
    main()
