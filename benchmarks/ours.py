"""Slim Zoo in `throughput.py`: what touches this project is here. See `worker.Worker` for what the functions return."""
import functools
import inspect
import json
import pathlib
import sys
import types

from worker import Cell

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))     # before a `datasets` of someone else
CLASSES = 1000


def endlessly(step):
    """An iterator that calls `step` for ever."""
    while True:
        yield step()


def made_batch(cell: Cell):
    """uint8 images [batch, size, size, channels] and labels [batch], as tensors."""
    import tensorflow as tf

    from nets import registry
    shape = [cell.batch_size, cell.image_size, cell.image_size, registry.get(cell.model).channels]
    images = tf.random.stateless_uniform(shape, [0, 0], 0, 256, tf.int32)
    labels = tf.random.stateless_uniform(shape[:1], [0, 1], 0, CLASSES, tf.int32)
    return tf.cast(images, tf.uint8), tf.cast(labels, tf.int64)


def make_trainer(cell: Cell):
    """The `Trainer` of `train_image_classifier.py`; momentum, no auxiliary logits, as the peers have it."""
    import tensorflow as tf

    from nets import registry
    from training.config import TrainConfig
    from training.trainer import Trainer
    row = registry.get(cell.model)
    no_aux = {'create_aux_logits': False} if 'create_aux_logits' in inspect.signature(row.build).parameters else {}
    config = TrainConfig(model_name=row.name, batch_size=cell.batch_size, precision=cell.precision,
                         optimizer='momentum', train_image_size=cell.image_size, **no_aux)
    dataset = types.SimpleNamespace(name='made', num_samples=1_281_167, num_classes=CLASSES)
    with tf.distribute.get_strategy().scope():
        return Trainer(config, dataset, cell.image_size, row.channels)


def train(cell: Cell, part: str = 'step'):
    """Training steps; or of these only `forward`, or `gradients`: forward and backward."""
    import tensorflow as tf

    from preprocessing import preprocessing_factory
    trainer, (images, labels) = make_trainer(cell), made_batch(cell)
    model = trainer.model
    prepare = tf.function(preprocessing_factory.get_split_preprocessing(cell.model).on_device, jit_compile=True)

    def loss_of(images, labels):
        logits, _ = model.build(tf.cast(prepare(images), cell.precision), True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))
        return tf.reduce_mean(losses) + model.regularization_loss()

    def gradients(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(images, labels)
        with tf.control_dependencies(tape.gradient(loss, model.trainable_variables)):
            return tf.identity(loss)

    function = tf.function({'step': trainer.step, 'forward': loss_of, 'gradients': gradients}[part], autograph=False)
    return f'TensorFlow {tf.__version__}', lambda: endlessly(lambda: function(images, labels).numpy())


def infer(cell: Cell):
    """A model in a `tf.function`."""
    import tensorflow as tf

    import nets
    images, _ = made_batch(cell)
    model = nets.create_model(cell.model, CLASSES, image_size=cell.image_size)
    function = tf.function(lambda images: model(tf.cast(images, cell.precision)), autograph=False)
    images = tf.cast(images, tf.float32) / 127.5 - 1
    return f'TensorFlow {tf.__version__}', lambda: endlessly(lambda: function(images).numpy())


def infer_folded(cell: Cell):
    """`nets.inference`: batch norms folded into the convolutions, weights constant."""
    import tensorflow as tf

    import nets
    from nets import inference
    images, _ = made_batch(cell)
    folded = inference.Folded(nets.create_model(cell.model, CLASSES, image_size=cell.image_size), cell.precision)
    images = tf.cast(images, tf.float32) / 127.5 - 1
    return f'TensorFlow {tf.__version__}', lambda: endlessly(lambda: folded(images).numpy())


def input_batches(cell: Cell, part: str = ''):
    """What `train_image_classifier.py` trains on, ready for the network; `host`: the uint8 that go to the device."""
    import tensorflow as tf

    from training import data
    from training.config import TrainConfig
    config = TrainConfig(model_name=cell.model, batch_size=cell.batch_size, dataset_name='image_folder',
                         dataset_dir=cell.images)
    batches = data.training_batches(config, data.open_dataset(config), cell.image_size)
    device_part = tf.function(data.device_part(config), jit_compile=True)
    seed = tf.constant([1, 2])

    def ready():
        for images, labels in batches:
            yield device_part(images, seed), labels

    return f'TensorFlow {tf.__version__}', lambda: iter(batches) if part == 'host' else ready()


def input_of_tf_slim(cell: Cell):
    """TF-Slim's way, in its order: the whole photo is decoded and made floats, then cropped, resized and distorted."""
    import tensorflow as tf

    def load(path):
        image = tf.image.convert_image_dtype(tf.io.decode_jpeg(tf.io.read_file(path), 3), tf.float32)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image), tf.zeros([1, 0, 4]), min_object_covered=0.1, aspect_ratio_range=(0.75, 1.33),
            area_range=(0.05, 1.0), max_attempts=100, use_image_if_no_bounding_boxes=True)
        image = tf.slice(image, begin, size)
        image.set_shape([None, None, 3])
        image = tf.compat.v1.image.resize(image, [cell.image_size, cell.image_size])
        image = tf.image.random_flip_left_right(image)
        image = tf.image.random_saturation(tf.image.random_brightness(image, 32 / 255), 0.5, 1.5)
        return (tf.clip_by_value(image, 0.0, 1.0) - 0.5) * 2.0

    return f'TensorFlow {tf.__version__}', lambda: iter(_batches(cell, load))


def input_decoding(cell: Cell):
    """Decoding alone: photos are read and decoded as a whole, and nothing is done with them."""
    import tensorflow as tf
    load = lambda path: tf.io.decode_jpeg(tf.io.read_file(path), 3)[0, 0]  # noqa: E731
    return f'TensorFlow {tf.__version__}', lambda: iter(_batches(cell, load))


def _batches(cell, load):
    import tensorflow as tf
    files = tf.data.Dataset.list_files(f'{cell.images}/*/*.jpg').cache().repeat().shuffle(1000)
    return files.map(load, tf.data.AUTOTUNE).batch(cell.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def product(cell: Cell, size: int):
    """Products of two matrices [size, size] in TensorFlow."""
    import tensorflow as tf
    matrix = tf.cast(tf.random.stateless_normal([size, size], [0, 0]), cell.precision)
    function = tf.function(functools.partial(tf.linalg.matmul, matrix, matrix), autograph=False)
    # The sum waits for a GPU.
    return f'TensorFlow {tf.__version__}', lambda: endlessly(lambda: function()[0, 0].numpy())


def multiply_adds(cell: Cell, path: str) -> None:
    """Writes how many multiply-adds an image takes."""
    from nets import summary
    rows = summary.summarize_network(cell.model, cell.image_size, CLASSES)
    pathlib.Path(path).write_text(str(sum(row.multiply_adds for row in rows)))


def export_onnx(cell: Cell, path: str) -> None:
    """Writes our network as ONNX, for batches of the cell's size."""
    import tensorflow as tf
    import tf2onnx

    import nets
    model = nets.create_model(cell.model, CLASSES, image_size=cell.image_size)
    spec = tf.TensorSpec([cell.batch_size, cell.image_size, cell.image_size, model.channels], name='images')
    function = tf.function(lambda images: model(images), input_signature=[spec], autograph=False)
    tf2onnx.convert.from_function(function, [spec], opset=17, output_path=path)


def export_openvino(cell: Cell, path: str) -> None:
    """Writes our network as OpenVINO's XML, for batches of the cell's size."""
    import openvino

    import nets
    from nets import inference
    network = nets.create_model(cell.model, CLASSES, image_size=cell.image_size)
    model = inference.convert_to_openvino(network)
    model.reshape([cell.batch_size, cell.image_size, cell.image_size, network.channels])
    openvino.save_model(model, path, compress_to_fp16=False)


if __name__ == '__main__':      # what should not add to a candidate's memory: FUNCTION CELL PATH
    try:
        globals()[sys.argv[1]](Cell(**json.loads(sys.argv[2])), sys.argv[3])
    except ModuleNotFoundError as error:
        sys.exit(f'{error.name} is not installed')
