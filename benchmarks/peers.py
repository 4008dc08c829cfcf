"""The peers in `throughput.py`: a function for each library. See `worker.Worker` for what the functions return."""
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import inspect
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

from ours import CLASSES, endlessly, made_batch
from worker import Cell, NotThere

# Our name: torchvision's, timm's, Keras's, or None where there is no such network. ResNet V1 is torchvision's but for
# where the stride stands.
NETWORKS: dict[str, tuple[str | None, str | None, str | None]] = {
    'alexnet_v2': ('alexnet', None, None),
    'vgg_a': ('vgg11', 'vgg11', None),
    'vgg_16': ('vgg16', 'vgg16', 'VGG16'),
    'vgg_19': ('vgg19', 'vgg19', 'VGG19'),
    'inception_v1': ('googlenet', None, None),
    'inception_v3': ('inception_v3', 'inception_v3', 'InceptionV3'),
    'inception_v4': (None, 'inception_v4', None),
    'inception_resnet_v2': (None, 'inception_resnet_v2', 'InceptionResNetV2'),
    **{f'resnet_v1_{depth}': (f'resnet{depth}', f'resnet{depth}', f'ResNet{depth}') for depth in (50, 101, 152)},
    **{f'resnet_v2_{depth}': (None, f'resnetv2_{depth}', f'ResNet{depth}V2') for depth in (50, 101, 152)},
    'mobilenet_v1': (None, 'mobilenetv1_100', 'MobileNet'),
    'mobilenet_v2': ('mobilenet_v2', 'mobilenetv2_100', 'MobileNetV2'),
    'mobilenet_v3_small': ('mobilenet_v3_small', 'mobilenetv3_small_100', 'MobileNetV3Small'),
    'mobilenet_v3_large': ('mobilenet_v3_large', 'mobilenetv3_large_100', 'MobileNetV3Large'),
    'nasnet_mobile': (None, None, 'NASNetMobile'),
    'nasnet_large': (None, 'nasnetalarge', 'NASNetLarge'),
    'pnasnet_large': (None, 'pnasnet5large', None),
}
_LIBRARIES = ('torchvision', 'timm', 'keras')


def _network(library, cell):
    name = NETWORKS.get(cell.model, (None,) * 3)[_LIBRARIES.index(library)]
    if name is None:
        raise NotThere(f'{library} has no {cell.model}')
    return name


def import_torchvision():
    """torchvision, also where its compiled part does not fit PyTorch: `pip install --no-deps torchvision`.

    That is how it is had beside a CPU build of PyTorch. It refuses to be imported without its operators, which no
    classifier uses; so they are declared.
    """
    import torch
    warnings.filterwarnings('ignore', module='torchvision')
    with contextlib.suppress(RuntimeError):     # operator torchvision::nms does not exist
        return importlib.import_module('torchvision')
    folder = importlib.util.find_spec('torchvision').submodule_search_locations[0]
    source = pathlib.Path(folder, '_meta_registrations.py').read_text(encoding='utf-8')
    for operator in sorted(set(re.findall(r'register_fake\("(torchvision::\w+)"', source))):
        torch.library.define(operator, '(Tensor input) -> Tensor')
    return importlib.import_module('torchvision')


def pytorch(cell: Cell, library: str, variant: str = ''):
    """torchvision or timm: channels last, autocast for bfloat16.

    Variants: `compile` for torch.compile, in inference with frozen weights; `weights` for weights in bfloat16 in place
    of autocast.
    """
    name = _network(library, cell)
    if variant == 'compile':
        if not any(map(shutil.which, filter(None, [os.environ.get('CXX'), 'c++', 'g++', 'clang++', 'cl']))):
            raise NotThere('torch.compile finds no C++ compiler')
        if cell.mode == 'infer':
            os.environ['TORCHINDUCTOR_FREEZING'] = '1'
    import torch
    torchvision = import_torchvision()      # which timm imports
    if library == 'timm':
        import timm
        takes_size = {'img_size': cell.image_size} if name.startswith('vgg') else {}
        network, version = timm.create_model(name, num_classes=CLASSES, **takes_size), timm.__version__
    else:
        build = getattr(torchvision.models, name)
        inceptions = {'aux_logits': False, 'init_weights': False} if name in ('googlenet', 'inception_v3') else {}
        network, version = build(weights=None, num_classes=CLASSES, **inceptions), torchvision.__version__
    version = f'{library} {version}, PyTorch {torch.__version__}'
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    images, labels = _torch_batch(cell, device)
    network = network.to(device, memory_format=torch.channels_last).train(cell.mode == 'train')
    if variant == 'weights':
        network, images = network.to(torch.bfloat16), images.to(torch.bfloat16)
    run = torch.compile(network) if variant == 'compile' else network
    autocast = torch.autocast(device, torch.bfloat16, enabled=cell.precision == 'bfloat16' and variant != 'weights')
    if cell.mode == 'infer':
        @torch.inference_mode()
        def step():
            with autocast:
                return run(images)[0, 0].item()
    else:
        optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=4e-5)

        def step():
            optimizer.zero_grad()
            with autocast:
                loss = torch.nn.functional.cross_entropy(run(images), labels)
            loss.backward()
            optimizer.step()
            return loss.item()
    return version, lambda: endlessly(step)


def _torch_batch(cell, device):
    import torch
    torch.manual_seed(0)
    images = torch.rand(cell.batch_size, 3, cell.image_size, cell.image_size, device=device) * 2 - 1
    labels = torch.randint(CLASSES, (cell.batch_size,), device=device)
    return images.contiguous(memory_format=torch.channels_last), labels


def keras(cell: Cell, variant: str = ''):
    """keras.applications: `train_on_batch` and `predict_on_batch` of a compiled model.

    By itself Keras compiles with XLA where it can; the variant `no XLA` does not.
    """
    name = _network('keras', cell)
    import keras
    import numpy as np
    keras.config.set_dtype_policy('mixed_bfloat16' if cell.precision == 'bfloat16' else 'float32')
    shape = (cell.image_size, cell.image_size, 3)
    model = getattr(keras.applications, name)(weights=None, classes=CLASSES, input_shape=shape)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), 'sparse_categorical_crossentropy',
                  jit_compile=False if variant else 'auto')
    random = np.random.RandomState(0)
    images = random.uniform(-1, 1, (cell.batch_size, *shape)).astype(np.float32)
    labels = random.randint(0, CLASSES, cell.batch_size)
    version = f'Keras {keras.__version__} on {keras.backend.backend()}'
    if cell.mode == 'infer':
        return version, lambda: endlessly(lambda: np.asarray(model.predict_on_batch(images)))
    return version, lambda: endlessly(lambda: model.train_on_batch(images, labels))


def tf_slim(cell: Cell):
    """`tf_slim.nets`, the networks of the tf-slim package, in a TF1 graph and session."""
    if cell.precision != 'float32':
        raise NotThere('TF-Slim computes in float32')
    from nets import registry
    row = registry.get(cell.model)
    module = f'tf_slim.nets.{row.module.rpartition(".")[2]}'
    import tensorflow.compat.v1 as tf
    import tf_slim as slim

    import tf_slim_compat  # noqa: F401
    if not importlib.util.find_spec(module):
        raise NotThere(f'tf_slim.nets has no {cell.model}')
    networks = importlib.import_module(module)
    build, arg_scope = getattr(networks, row.builder), getattr(networks, row.arg_scope)
    no_aux = {'create_aux_logits': False} if 'create_aux_logits' in inspect.signature(build).parameters else {}
    fed, classes = (value.numpy() for value in made_batch(cell))
    tf.disable_eager_execution()
    session = tf.Session()
    images, labels = tf.Variable(fed / 127.5 - 1, trainable=False, dtype=tf.float32), tf.constant(classes)
    with slim.arg_scope(arg_scope(weight_decay=4e-5)):
        logits, _ = build(images, CLASSES, is_training=cell.mode == 'train', **no_aux)
    logits = tf.reshape(logits, [cell.batch_size, CLASSES])     # the ResNets leave [batch, 1, 1, classes]
    if cell.mode == 'train':
        tf.losses.sparse_softmax_cross_entropy(labels, logits)
        optimizer = tf.train.MomentumOptimizer(0.01, 0.9)
        fetched = slim.learning.create_train_op(tf.losses.get_total_loss(), optimizer)
    else:
        fetched = logits
    session.run(tf.global_variables_initializer())
    version = f'tf-slim {importlib.metadata.version("tf-slim")}, TensorFlow {tf.__version__}'
    return version, lambda: endlessly(lambda: session.run(fetched))


def _exported(cell, kind, ending, folder):
    """Our network in a file that another process writes, so that TensorFlow's memory is not counted here."""
    path = os.path.join(folder, f'network.{ending}')
    program = [sys.executable, pathlib.Path(__file__).with_name('ours.py'), kind, json.dumps(dataclasses.asdict(cell))]
    done = subprocess.run([*program, path], capture_output=True, text=True)
    if done.returncode:
        raise NotThere(done.stderr.strip().splitlines()[-1])
    return path


def _numpy_images(shape):
    import numpy as np
    return np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)


def onnxruntime(cell: Cell):
    """Our network, by tf2onnx, in ONNX Runtime."""
    if cell.precision != 'float32':
        raise NotThere('ONNX Runtime computes in float32')
    import onnxruntime as runtime
    with tempfile.TemporaryDirectory() as folder:
        providers = runtime.get_available_providers()
        session = runtime.InferenceSession(_exported(cell, 'export_onnx', 'onnx', folder), providers=providers)
    feed = {session.get_inputs()[0].name: _numpy_images(session.get_inputs()[0].shape)}
    name = session.get_outputs()[0].name
    return f'ONNX Runtime {runtime.__version__}', lambda: endlessly(lambda: session.run([name], feed))


def openvino(cell: Cell, variant: str = ''):
    """Our network in OpenVINO: one request after the other, or (`async`) as many in parallel as it thinks best."""
    import openvino as ov
    core = ov.Core()
    hints = {'INFERENCE_PRECISION_HINT': {'float32': 'f32', 'bfloat16': 'bf16'}[cell.precision],
             'PERFORMANCE_HINT': 'THROUGHPUT' if variant else 'LATENCY'}
    with tempfile.TemporaryDirectory() as folder:
        compiled = core.compile_model(_exported(cell, 'export_openvino', 'xml', folder), 'CPU', hints)
    images = _numpy_images(list(compiled.input(0).shape))
    version = f'OpenVINO {ov.__version__.partition("-")[0]}'
    if not variant:
        request = compiled.create_infer_request()
        return version, lambda: endlessly(lambda: request.infer([images], share_inputs=True))

    def turn():
        queue = ov.AsyncInferQueue(compiled)
        try:
            for number in itertools.count():
                queue.start_async([images], share_inputs=True)     # waits where all requests are under way
                if number >= 2 * len(queue):
                    yield
        finally:
            queue.wait_all()

    return f'{version}, {len(ov.AsyncInferQueue(compiled))} requests', turn


def input_of_pytorch(cell: Cell, variant: str = ''):
    """Pillow in PyTorch's DataLoader, a worker a core: crop, flip, normalisation; `colours` has TF-Slim's as well."""
    import torch
    transforms = import_torchvision().transforms
    from torchvision.datasets import ImageFolder
    distort = transforms.Compose([
        transforms.RandomResizedCrop(cell.image_size, (0.05, 1.0)), transforms.RandomHorizontalFlip(),
        *([transforms.ColorJitter(brightness=32 / 255, saturation=0.5)] if variant else []),
        transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    photos = ImageFolder(cell.images, distort)
    loader = torch.utils.data.DataLoader(photos, cell.batch_size, sampler=_Endless(len(photos)), drop_last=True,
                                         num_workers=os.cpu_count() or 1)
    return f'PyTorch {torch.__version__}', lambda: iter(loader)


class _Endless:
    """Indices in an order drawn anew for each epoch, without end."""

    def __init__(self, count):
        self._count = count

    def __iter__(self):
        import torch
        while True:
            yield from torch.randperm(self._count).tolist()


def input_of_keras(cell: Cell):
    """`keras.utils.image_dataset_from_directory`, which only resizes."""
    import keras
    batches = keras.utils.image_dataset_from_directory(
        cell.images, image_size=(cell.image_size,) * 2, batch_size=cell.batch_size, verbose=False).repeat()
    return f'Keras {keras.__version__}', lambda: iter(batches)


def product(cell: Cell, size: int):
    """Products of two matrices [size, size] in PyTorch."""
    import torch
    matrix = torch.randn(size, size, dtype=getattr(torch, cell.precision),
                         device='cuda' if torch.cuda.is_available() else 'cpu')
    return f'PyTorch {torch.__version__}', lambda: endlessly(lambda: (matrix @ matrix)[0, 0].item())
