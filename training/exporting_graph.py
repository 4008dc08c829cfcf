"""The graph of a network without its weights, as TF-Slim's `export_inference_graph.py` writes it."""
import inspect
import os
from collections.abc import Callable

import tensorflow as tf
from google.protobuf import text_format

from datasets import dataset_factory
from nets import checkpoints, nets_factory, registry
from training.config import ConfigError
from training.export_config import InferenceGraphConfig


def export_inference_graph(config: InferenceGraphConfig, say: Callable[[str], None] = print) -> list[str]:
    """Writes the graph that a config names into its `output_file`; one that is there is replaced, as in TF-Slim.

    Its input is `input`, and what it computes has the names of TF-Slim's graphs. It holds variables, not their values:
    `python -m tensorflow.python.tools.freeze_graph` takes these from a checkpoint.

    Args:
      config: see there.
      say: receives the lines that tell what was written.

    Returns:
      The names of the outputs: the logits, and the probabilities where the network has them.

    Raises:
      ConfigError: the network cannot be built so.
      datasets.DatasetError: there is no such dataset.
      nets.checkpoints.CheckpointError: the file cannot be written.
    """
    row, num_classes = registry.get(config.model_name), _num_classes(config)
    size = config.image_size or row.default_image_size
    shape = [config.batch_size, *([config.num_frames] if config.is_video_model else []), size, size,
             1 if config.use_grayscale else row.channels]
    arguments = {}
    if size > row.default_image_size and 'global_pool' in inspect.signature(row.build).parameters:
        arguments['global_pool'] = True
    # Variables as TF1 makes them, the only ones that freeze_graph knows.
    with tf.Graph().as_default() as graph, tf.compat.v1.variable_scope('', use_resource=False):
        images = tf.compat.v1.placeholder(tf.float32, shape, 'input')
        try:
            network_fn = nets_factory.get_network_fn(config.model_name, num_classes, is_training=config.is_training)
            logits, end_points = network_fn(images, **arguments)
        except ValueError as error:
            raise ConfigError(f'{config.model_name} cannot be built for images of {size}x{size}: {error}') from None
    outputs = [logits.op.name, *(end_points[name].op.name for name in ('Predictions', 'predictions')
                                 if name in end_points)]
    graph_def = graph.as_graph_def()
    folder, name = os.path.split(os.path.expanduser(config.output_file))
    checkpoints.write_text(folder or '.', name, text_format.MessageToString(graph_def)
                           if config.write_text_graphdef else graph_def.SerializeToString())
    say(f'Wrote {config.output_file}: {config.model_name}, {num_classes} classes, images {shape}, without weights.')
    say(f'Its input is `input`; its outputs are {" and ".join(f"`{output}`" for output in outputs)}.')
    say('To put the weights of a checkpoint into it:')
    say(f'python -m tensorflow.python.tools.freeze_graph --input_graph={config.output_file} '
        f'--input_binary={str(not config.write_text_graphdef).lower()} --input_checkpoint=model.ckpt '
        f'--output_graph=frozen_graph.pb --output_node_names={outputs[-1]}')
    return outputs


def _num_classes(config):
    row = dataset_factory.find_row(config.dataset_name)
    count = row.num_classes
    if count is None:
        count = dataset_factory.get_dataset(row, 'train', config.dataset_dir or None).num_classes
    if config.labels_offset >= count:
        raise ConfigError(f'--labels_offset={config.labels_offset}: {row.name} has {count} classes.')
    return count - config.labels_offset
