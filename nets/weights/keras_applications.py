"""Weights of Keras Applications (`.h5`, `.weights.h5`) into TF-Slim's variables, and back.

Both hold the same arrays, but for shapes (Keras's fully connected layers are TF-Slim's convolutions) and, in VGG, the
order of the colours. A layer is found by its name; those that Keras numbers, by the order of their numbers, in which
both libraries make them.

Two applications differ from TF-Slim's networks at the edges of maps. MobileNet pads a map of odd size at one side,
TF-Slim at both: they agree for images of a multiple of 32 pixels. NASNet's reduction cells pool zeros around the map,
TF-Slim's the map alone, unless they are built with `keras_padding`.
"""
import collections
import io
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from nets import registry
from nets.blueprint import auxiliary_scopes, network_variables
from nets.checkpoints import LARGEST, CheckpointError, Values

# The variables of a layer, in the order in which Keras has them.
_LEAVES = ('depthwise_weights', 'pointwise_weights', 'weights', 'biases', 'gamma', 'beta', 'moving_mean',
           'moving_variance')
_CLASSIFIERS = ('predictions', 'conv_preds', 'logits')


class _Application(NamedTuple):
    """An application that computes what a network does.

    Attributes:
      name: in `keras.applications`.
      scope_of: layer -> a pattern of its scope, below the network's; None where it is none of the application's.
      top: scopes that a file without top lacks.
      options: its arguments for this network.
      note: how it differs all the same.
    """

    name: str
    scope_of: Callable[[str], str | None]
    top: tuple[str, ...]
    options: Mapping[str, Any] = {}
    note: str = ''

    def __str__(self):
        return _call(self.name, self.options)


def _call(name, options):
    return f'{name}({", ".join(f"{key}={value}" for key, value in options.items())})'.removesuffix('()')


def _rules(rules: Mapping[str, str]) -> Callable[[str], str | None]:
    """The `scope_of` of rules: pattern of a layer's name, where a batch norm has its convolution's -> its scope."""
    def scope_of(layer):
        convolution = layer.removesuffix('_bn')
        for pattern, scope in rules.items():
            match = re.fullmatch(pattern, convolution)
            if match:
                return match.expand(scope) + ('/BatchNorm' if convolution != layer else '')
        return None
    return scope_of


def _nasnet(blocks: int) -> Callable[[str], str | None]:
    """The `scope_of` of a NASNet with so many normal cells between its reduction cells."""
    parts = {'normal_conv_1': '1x1', 'reduction_conv_1': '1x1', 'normal_bn_1': 'beginning_bn',
             'reduction_bn_1': 'beginning_bn', 'adjust_conv_1': 'path1_conv', 'adjust_conv_2': 'path2_conv',
             'adjust_conv_projection': 'prev_1x1', 'adjust_bn': '(?:final_path|prev)_bn'}
    once = {'stem_conv1': 'conv0', 'stem_bn1': 'conv0_bn', 'predictions': 'final_layer/FC'}

    def scope_of(layer):
        match = re.fullmatch(r'(\w+?)_(stem_|reduce_|)(\d+)', layer)
        if layer in once or not match:
            return once.get(layer)
        part, kind, number = match[1], match[2], int(match[3])
        cell = {'stem_': f'cell_stem_{number - 1}', 'reduce_': f'reduction_cell_{number // blocks - 1}',
                '': f'cell_{number - (number > blocks)}'}[kind]
        separable = re.fullmatch(r'separable_conv_(\d)(_bn)?_(normal|reduction)_(left|right)(\d)', part)
        if not separable:
            return f'{cell}/{parts[part]}' if part in parts else None
        index, norm, kind, side, row = separable.groups()
        row = int(row) - ((kind, row) != ('reduction', '4'))        # so called there, though it is in the fifth row
        return rf'{cell}/comb_iter_{row}/{side}/{"bn_sep" if norm else "separable"}_\dx\d_{index}'
    return scope_of


_VGG = _rules({r'block(\d)_conv(\d)': r'conv\1/conv\1_\2', 'fc1': 'fc6', 'fc2': 'fc7', 'predictions': 'fc8'})
_MOBILENET = _rules({
    'conv1': 'Conv2d_0',
    r'conv_dw_(\d+)': r'Conv2d_\1_depthwise',
    r'conv_pw_(\d+)': r'Conv2d_\1_pointwise',
    'conv_preds': 'Logits/Conv2d_1c_1x1'})
_MOBILENET_V2 = _rules({
    'conv1': 'Conv', 'bn_conv1': 'Conv/BatchNorm', 'conv_1': 'Conv_1',
    r'expanded_conv_(depthwise|project)': r'expanded_conv/\1',
    r'block_(\d+)_(expand|depthwise|project)': r'expanded_conv_\1/\2',
    'predictions': 'Logits/Conv2d_1c_1x1'})
_MOBILENET_V3 = _rules({
    r'conv(|_1|_2)': r'Conv\1',
    r'(expanded_conv(?:_\d+)?)_(expand|depthwise|project)': r'\1/\2',
    r'(expanded_conv(?:_\d+)?)_squeeze_excite_conv(|_1)': r'\1/squeeze_excite/Conv\2',
    'logits': 'Logits/Conv2d_1c_1x1'})
_INCEPTION_V3 = _rules({'predictions': 'Logits/Conv2d_1c_1x1'})
_INCEPTION_RESNET_V2 = _rules({
    r'block35_(\d+)_conv': r'Repeat/block35_\1/Conv2d_1x1',
    r'block17_(\d+)_conv': r'Repeat_1/block17_\1/Conv2d_1x1',
    r'block8_(\d)_conv': r'Repeat_2/block8_\1/Conv2d_1x1',
    'block8_10_conv': 'Block8/Conv2d_1x1',
    'conv_7b': 'Conv2d_7b_1x1',
    'predictions': 'Logits/Logits'})

_LOGITS = ('Logits',)
_ODD_SIZES = ('Keras pads maps of odd size at one side, TF-Slim at both: they answer the same for images of a multiple '
              'of 32 pixels.')
_POOLED_ZEROS = ("Keras's reduction cells pool zeros around the map, TF-Slim's the map alone: answers differ, but "
                 'with --padding=keras (keras_padding=True in Python), which pools them too.')
APPLICATIONS = {
    'inception_v3': _Application('InceptionV3', _INCEPTION_V3, _LOGITS),
    'inception_resnet_v2': _Application('InceptionResNetV2', _INCEPTION_RESNET_V2, _LOGITS),
    'vgg_16': _Application('VGG16', _VGG, ('fc6', 'fc7', 'fc8')),
    'vgg_19': _Application('VGG19', _VGG, ('fc6', 'fc7', 'fc8')),
    **{f'mobilenet_v1{suffix}': _Application('MobileNet', _MOBILENET, _LOGITS, options, _ODD_SIZES)
       for suffix, options in (('', {}), ('_075', {'alpha': 0.75}), ('_050', {'alpha': 0.5}),
                               ('_025', {'alpha': 0.25}))},
    'mobilenet_v2': _Application('MobileNetV2', _MOBILENET_V2, _LOGITS),
    'mobilenet_v2_140': _Application('MobileNetV2', _MOBILENET_V2, _LOGITS, {'alpha': 1.4}),
    'mobilenet_v2_035': _Application('MobileNetV2', _MOBILENET_V2, _LOGITS, {'alpha': 0.35}),
    **{f'mobilenet_v3_{size.lower()}{suffix}': _Application(f'MobileNetV3{size}', _MOBILENET_V3, ('Conv_2', 'Logits'),
                                                            options)
       for size in ('Small', 'Large')
       for suffix, options in (('', {}), ('_minimalistic', {'minimalistic': True}))},
    'nasnet_mobile': _Application('NASNetMobile', _nasnet(4), ('final_layer',), note=_POOLED_ZEROS),
    'nasnet_large': _Application('NASNetLarge', _nasnet(6), ('final_layer',), note=_POOLED_ZEROS),
}

# An application, a layer that none above it has, and that layer's width where the application's alpha is 1.
_SIGNS: tuple[tuple[str, str, int], ...] = (
    ('InceptionResNetV2', 'block35_1_conv', 0),
    ('VGG19', 'block5_conv4', 0),
    ('VGG16', 'block5_conv3', 0),
    ('MobileNet', 'conv_pw_13', 1024),
    ('MobileNetV2', 'block_16_project', 320),
    ('MobileNetV3Large', 'expanded_conv_14_project', 160),
    ('MobileNetV3Small', 'expanded_conv_10_project', 96),
    ('NASNetLarge', 'normal_conv_1_18', 0),
    ('NASNetMobile', 'normal_conv_1_12', 0),
    ('Xception', 'block14_sepconv2', 0),
    ('DenseNet', 'pool2_conv', 0),
    ('ResNetV2', 'conv2_block1_preact_bn', 0),
    ('ResNet', 'conv2_block1_1_conv', 0),
    ('ResNet', 'res2a_branch2a', 0),
    ('EfficientNet', 'block1a_project_conv', 0),
)
_INCEPTION_V3_CONVOLUTIONS = 94
# A gate of squeeze-and-excitation is a sixth in Keras, and rounded in TF-Slim: the kernel behind it makes up for that.
_GATE = 0.16667 * 6
_RESNETS = ("Keras's ResNets have the stride of a block in its first unit, TF-Slim's in its last: with the same "
            'weights they answer differently.')


def read(path: str, network: registry.Network) -> Values:
    """Reads the weights of a Keras application.

    Args:
      path: an HDF5 file: `.h5` of `save_weights` in Keras 2 or of a whole model, `.weights.h5` of Keras 3; with or
        without top. Layers of one's own behind the application's are left out.
      network: the row of the network that they are for.

    Returns:
      The values of the network's variables. `lacks` names what Keras does not have: the auxiliary classifier, and the
      classifier in a file without top.

    Raises:
      CheckpointError: there is no such file, it is damaged, or it is of something that does not compute the same as
        the network.
    """
    layers = _read_layers(path, network)
    application = _check(path, network, layers)
    classifier = next((layers[name] for name in _CLASSIFIERS if name in layers), None)
    variables = network_variables(network, classifier[-1].shape[-1] if classifier else None)
    values = {}
    for layer, wanted in _names(layers, application, network, variables).items():
        shapes, arrays = [variables[name] for name in wanted], layers[layer]
        if len(arrays) != len(shapes) or not all(
                _fits(array.shape, shape) for array, shape in zip(arrays, shapes, strict=True)):
            held = _list(array.shape for array in arrays)
            raise CheckpointError(f'{path} is not of {application} as Keras makes it: {layer} holds {held}, where '
                                  f'{network.name} has {_list(shapes)}.')
        for name, array in zip(wanted, arrays, strict=True):
            values[name] = _adapt(name, array.reshape(variables[name]), variables, 1 / _GATE)
    lacks = auxiliary_scopes(variables)
    if not classifier:
        lacks += [_within(network, scope) for scope in application.top]
    missing = [name for name in variables if name not in values and not name.startswith(tuple(lacks))]
    if missing:
        raise CheckpointError(f'{path} is not a whole {application}: {len(missing)} of the {len(variables)} variables '
                              f'of {network.name} are not in it, {missing[0]} for one.')
    return Values(path, values, lacks)


def write(values: Mapping[str, Any], network: registry.Network, path: str) -> str:
    """Writes the weights of a network for its Keras application, whole or not at all.

    The application's `load_weights` takes the file. With `classifier_activation=None` it then gives the network's
    logits: for as many classes as the values have, 1001 where the first is background. Auxiliary classifiers are left
    out, since Keras has none.

    Args:
      values: variable name -> array; without those of the classifier, the file is without top (`include_top=False`).
      network: the row of the network that they are of.
      path: of the file, which must end with `.weights.h5`; one that is there is replaced.

    Returns:
      The call that makes the application for it.

    Raises:
      CheckpointError: Keras has no application that computes the same, values are missing or misshapen, or the file
        cannot be written.
    """
    application = APPLICATIONS.get(network.name)
    if application is None:
        why = _RESNETS if 'nets.resnet_v' in network.module else 'Keras Applications has no such network.'
        raise CheckpointError(f'{network.name} cannot be written for Keras: {why}')
    if not path.endswith('.weights.h5'):
        raise CheckpointError(f'{path} cannot be written: Keras wants a name that ends with .weights.h5.')
    variables = network_variables(network)
    top = _within(network, application.top[-1])
    biases = next(name for name in variables if name.startswith(top) and name.endswith('/biases'))
    classes = values[biases].shape[0] if biases in values else None
    layers = _keras_layers(application, classes)
    names = _names([_plain(layer.name) for layer in layers.values()], application, network, variables)
    content = io.BytesIO()      # HDF5 does not survive a full disk
    with h5py.File(content, 'w') as file:
        file.create_group('vars')       # the model's own, which Keras before 3.6 wants to see
        for key, layer in layers.items():
            group = file.create_group(f'layers/{key}/vars')
            group.attrs['name'] = layer.name
            for index, (name, weight) in enumerate(zip(names[_plain(layer.name)], layer.weights, strict=True)):
                value = np.asarray(values[name]) if name in values else None
                if value is None or not _fits(value.shape, weight.shape):
                    what = 'is not there' if value is None else \
                        f'is {list(value.shape)}, where Keras has {list(weight.shape)}'
                    raise CheckpointError(f'{path} cannot be written: {name} of {network.name} {what}.')
                group[str(index)] = _adapt(name, value, variables, _GATE).reshape(weight.shape)
    folder, file_name = os.path.split(path)
    part = os.path.join(folder, f'.writing-{file_name}')
    try:
        os.makedirs(folder or '.', exist_ok=True)
        with open(part, 'wb') as part_file:
            part_file.write(content.getbuffer())
        os.replace(part, path)
    except OSError as error:
        raise CheckpointError(f'{path} cannot be written: {error.strerror}.') from None
    finally:
        if os.path.exists(part):
            os.remove(part)
    top_or_not = {'classes': classes} if classes else {'include_top': False}
    return _call(f'keras.applications.{application.name}', {'weights': None, **top_or_not, **application.options})


def _keras_layers(application, classes):
    """The layers with weights of an application, by class and position as a `.weights.h5` has them."""
    import keras  # late: reading needs h5py alone

    build = getattr(keras.applications, application.name)
    model = build(weights=None, include_top=bool(classes), classes=classes or 1000, **application.options)
    kinds = {'Conv2D': 'conv2d', 'DepthwiseConv2D': 'depthwise_conv2d', 'SeparableConv2D': 'separable_conv2d',
             'BatchNormalization': 'batch_normalization', 'Dense': 'dense'}
    layers, counts = {}, collections.Counter()
    for layer in model.layers:
        kind = kinds.get(type(layer).__name__)
        if kind:
            layers[f'{kind}_{counts[kind]}' if counts[kind] else kind] = layer
            counts[kind] += 1
    return layers


def _check(path, network, layers):
    """The network's application; refuses a file of another."""
    application, seems = APPLICATIONS.get(network.name), _seems(layers)
    if seems is None:
        raise CheckpointError(f'{path} is of no Keras application that is known here: its layers are '
                              f'{", ".join(list(layers)[:3])}, ...')
    if seems != str(application):
        fitting = [name for name, row in APPLICATIONS.items() if str(row) == seems]
        why = f'its network here is {fitting[0]}' if fitting else _RESNETS if 'ResNet' in seems else \
            'no network here computes the same'
        raise CheckpointError(f"{path} holds Keras's {seems}, which is not {network.name}: {why.rstrip('.')}.")
    return application


def _seems(layers):
    """The application that a file's layers are of, as `str` of an `_Application` has it; None if unknown."""
    if sum(name.startswith('conv2d') for name in layers) == _INCEPTION_V3_CONVOLUTIONS:
        return 'InceptionV3'
    for name, sign, width in _SIGNS:
        if sign in layers:
            alpha = layers[sign][0].shape[-1] / width if width else 1
            options: dict[str, Any] = {'alpha': round(alpha, 3)} if alpha != 1 else {}
            if name.startswith('MobileNetV3') and not any('squeeze_excite' in layer for layer in layers):
                options['minimalistic'] = True
            return _call(name, options)
    return None


def _names(layers, application, network, variables):
    """Layer -> the names of its variables, in Keras's order, for the layers that the network has too."""
    scopes = dict.fromkeys(name.rpartition('/')[0] for name in variables)
    auxiliary = tuple(auxiliary_scopes(variables))
    numbered = [scope for scope in scopes if f'{scope}/BatchNorm' in scopes and not scope.startswith(auxiliary)
                and not scope.endswith('/Conv2d_7b_1x1')] if application.name.startswith('Inception') else []
    by_number: dict[str, str] = {}
    for kind, end in (('conv2d', ''), ('batch_normalization', '/BatchNorm')):
        matches = [match for match in (re.fullmatch(kind + r'(?:_(\d+))?', layer) for layer in layers) if match]
        matches.sort(key=lambda match: int(match[1] or 0))
        by_number.update((match[0], scope + end) for match, scope in zip(matches, numbered, strict=False))
    result = {}
    for layer in layers:
        pattern = by_number.get(layer) or _within(network, application.scope_of(layer) or '-')
        scope = pattern if pattern in scopes else next(filter(re.compile(pattern).fullmatch, scopes), None)
        if scope is not None:
            result[layer] = [f'{scope}/{leaf}' for leaf in _LEAVES if f'{scope}/{leaf}' in variables]
    return result


def _within(network, scope):
    return f'{network.scope}/{scope}' if network.scope else scope


def _adapt(name, array, variables, gate):
    """What the other library needs in place of a variable, if it is not the same."""
    if re.fullmatch(r'vgg_\d+/conv1/conv1_1/weights', name):       # blue first, or red first
        return array[:, :, ::-1]
    gated = name.endswith('/project/weights') and name.replace('project', 'squeeze_excite/Conv') in variables
    return array * np.float32(gate) if gated else array


def _fits(shape, other):
    """Whether two shapes hold the same values in the same order; one may be that of a fully connected layer."""
    flat = 2 in (len(shape), len(other))
    return math.prod(shape) == math.prod(other) and (flat or _sizes(shape) == _sizes(other))


def _sizes(shape):
    return [size for size in shape if size > 1]


def _list(shapes):
    return ' and '.join(str(list(shape)) for shape in shapes)


def _plain(layer):
    # Keras 2 calls layers of MobileNet V3 as TF-Slim does: expanded_conv/depthwise/BatchNorm.
    return layer.replace('/', '_').replace('BatchNorm', 'bn').lower()


def _read_layers(path, network):
    """Plain name of a layer, see `_plain` -> its arrays, in Keras's order."""
    if not os.path.isfile(path):
        raise CheckpointError(f'There is no file {path}.')
    try:
        with h5py.File(path, 'r') as file:
            _check_sizes(path, file)
            root = file.get('layers', file.get('_layer_checkpoint_dependencies'))
            named, layers = _keras_3_layers(root) if root else (True, _keras_2_layers(file.get('model_weights', file)))
    except CheckpointError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError):
        raise CheckpointError(f'{path} is not a file of Keras weights (HDF5), or is damaged.') from None
    if not layers:
        raise CheckpointError(f'{path} holds no layers: it is not a file of Keras weights.')
    application = APPLICATIONS.get(network.name)
    known = {} if named or not application else _keras_layers(application, network.num_classes)
    return {_plain(known[key].name if key in known else key): arrays for key, arrays in layers.items()}


def _check_sizes(path, file):
    """Refuses a file that says of little that it is much: HDF5 makes room for what was never written."""
    sizes: list[int] = []
    file.visititems(lambda name, item: sizes.append(item.size or 0) if isinstance(item, h5py.Dataset) else None)
    if sum(sizes) > LARGEST:
        raise CheckpointError(f'{path} cannot be read: it holds {sum(sizes):,} numbers, and no network here has more '
                              f'than {LARGEST:,}.')


def _keras_2_layers(root):
    """The layers of a file of groups by layer name; also of Keras 3, when it writes `.h5`."""
    layers = {}
    for name in _attribute(root, 'layer_names'):
        layers[name] = [np.asarray(root[name][weight], np.float32) for weight in _attribute(root[name], 'weight_names')]
    return {name: arrays for name, arrays in layers.items() if arrays}


def _attribute(group, name):
    # Keras cuts a list that is too long for an HDF5 attribute into name0, name1, ...
    parts = [group.attrs[name]] if name in group.attrs else []
    while f'{name}{len(parts)}' in group.attrs:
        parts.append(group.attrs[f'{name}{len(parts)}'])
    return [item.decode() if isinstance(item, bytes) else str(item) for part in parts for item in part]


def _keras_3_layers(root):
    """Whether layers have names, as they do since Keras 3.6, and the layers, by class and position where not."""
    groups = {key: group['vars'] for key, group in root.items() if len(group.get('vars', ()))}
    named = all('name' in group.attrs for group in groups.values())
    return named, {group.attrs['name'] if named else key:
                   [np.asarray(group[str(index)], np.float32) for index in range(len(group))]
                   for key, group in groups.items()}
