"""Any network of the registry as a `tf.Module` that holds its own variables: eager code, `tf.function`, tf.distribute.

TF-Slim's builders ask `get_variable` for their variables, which outside a TF1 graph makes new ones at each call.
`Model` answers these requests itself, through the variable scope's `custom_getter`, from a dictionary name ->
`tf.Variable` that it fills once. No graph collection is involved, so replica threads cannot race. Parameters are
float32; a layer that computes in another type is handed its weight cast.
"""
import fnmatch
import inspect
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat
from nets import registry
from nets.names import unknown
from nets.scopes import Net

# What a Model gives a builder itself.
_OWN_ARGUMENTS = ('num_classes', 'is_training', 'reuse', 'scope')


class _Spec(NamedTuple):
    """What a builder asked of `get_variable`."""

    shape: tuple[int, ...]
    initializer: Callable
    trainable: bool
    regularizer: Callable | None


class Model(tf.Module):
    """A network and its variables.

    Args:
      network: a name of `nets.registry.NETWORKS`.
      num_classes: the number of logits; None or 0 for features without a head.
      image_size: the side of the square images that its variables are made for (only networks whose fully connected
        layers see the whole image depend on it); the network's `default_image_size` if None. Above that, `global_pool`
        is on. The size of its published evaluation (`eval_image_size`) plays no part here.
      channels: of the images; those of the published weights if None.
      weight_decay: given to the network's arg scope, which regularizes the weights with it.
      **kwargs: further arguments of the builder, `create_aux_logits=True` for one.

    Raises:
      ValueError: the name is not a network's, or the builder refuses its arguments.

    Attributes:
      by_name: variable name, as in TF-Slim's checkpoints -> `tf.Variable`, in creation order.
      endpoint_shapes: endpoint name -> shape (batch and frames unknown) for training, in the order of the network.
    """

    def __init__(self, network: str, num_classes: int | None = None, *, image_size: int | None = None,
                 channels: int | None = None, weight_decay: float = 0.0, **kwargs):
        row = registry.get(network)
        super().__init__(name=re.sub(r'\W', '_', row.name))
        registry.check_num_classes(num_classes)
        takes = [name for name in inspect.signature(row.build).parameters if name not in _OWN_ARGUMENTS][1:]
        for name in kwargs:
            if name not in takes:
                raise unknown(f'argument of {network}', name, takes)
        self.network, self.num_classes = network, num_classes
        self.image_size, self.channels = image_size or row.default_image_size, channels or row.channels

        if 'global_pool' in takes and self.image_size > row.default_image_size:
            kwargs.setdefault('global_pool', True)  # the pooling before the logits is as large as the default needs

        def build(images, training, batch_norm_decay=None, dropout_seed=None, step=None):
            scope = row.make_arg_scope(weight_decay=weight_decay)
            if batch_norm_decay is not None:
                scope = _with_batch_norm_decay(scope, batch_norm_decay)
            with slim.arg_scope(scope), slim.arg_scope([slim.dropout], seed=dropout_seed):
                current = {'current_step': step} if step is not None and 'current_step' in takes else {}
                return row.build(images, num_classes, is_training=training, **current, **kwargs)

        self._build = build
        batch = [None, None] if row.frames else [None]      # and frames, of which any number will do
        specs, self.endpoint_shapes = _blueprint(build, [*batch, self.image_size, self.image_size, self.channels])
        self.by_name = {name: _make_variable(name, spec) for name, spec in specs.items()}
        self._order = list(specs)
        self._regularizers = {name: spec.regularizer for name, spec in specs.items() if spec.regularizer}
        self._compiled = tf.function(self._select, autograph=False, reduce_retracing=True)

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables, moving statistics included, in creation order."""
        return [self.by_name[name] for name in self._order]

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The trained variables, in creation order."""
        return [variable for variable in self.variables if variable.trainable]

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits [batch, num_classes], float32; computed in the type of the images [batch, height, width, channels].

        Networks of videos take [batch, frames, height, width, channels], with any number of frames.
        """
        return self._run(images, training, None)

    def endpoints(self, images: tf.Tensor, names: Iterable[str] | str = '*',
                  training: bool = False) -> dict[str, tf.Tensor]:
        """The endpoints of these names or patterns (`Mixed_5*`), computing nothing that they do not need.

        Raises:
          ValueError: a name that no endpoint has.
        """
        wanted = set()
        for name in [names] if isinstance(names, str) else names:
            found = fnmatch.filter(self.endpoint_shapes, name)
            if not found:
                raise unknown(f'endpoint of {self.network}', name, self.endpoint_shapes)
            wanted.update(found)
        return self._run(images, training, tuple(name for name in self.endpoint_shapes if name in wanted))

    def build(self, images: tf.Tensor, training: bool, batch_norm_decay: Callable | None = None,
              dropout_seed: tf.Tensor | None = None, step: tf.Tensor | None = None) -> Net:
        """TF-Slim's `(logits, end_points)`, for code that runs in a `tf.function` of its own, such as a training step.

        Args:
          images: as in a call; the network computes in their type.
          training: whether dropout and batch statistics are on; moving statistics are then updated in place.
          batch_norm_decay: a function of the arg scope's decay that gives the decay to use (for a warm-up).
          dropout_seed: integers [2], of which dropout is then a function; None for TensorFlow's own random state.
          step: the training's, for networks that change with it: NASNet drops more and more paths.
        """
        # The root, whatever scope the caller is in: the variables' names are the checkpoint's.
        root = tf.compat.v1.VariableScope(tf.compat.v1.AUTO_REUSE, custom_getter=self._get)
        with tf.compat.v1.variable_scope(root, auxiliary_name_scope=False):
            return self._build(images, training, batch_norm_decay, dropout_seed, step)

    def regularization_loss(self) -> tf.Tensor:
        """The sum of the regularizers that the network's arg scope gives its variables; a float32 scalar."""
        losses = [regularizer(self.by_name[name]) for name, regularizer in self._regularizers.items()]
        losses = [loss for loss in losses if loss is not None]  # slim.l2_regularizer(0.0) gives None
        return tf.add_n(losses) if losses else tf.constant(0.0)

    def _get(self, getter, name, shape=None, dtype=tf.float32, **unused):
        variable = self.by_name.get(name)
        if variable is None or not variable.shape.is_compatible_with(shape):
            have = 'does not exist' if variable is None else f'has shape {variable.shape.as_list()}'
            raise ValueError(
                f'{self.network} was made for images {self.image_size}x{self.image_size}x{self.channels}; this call '
                f'needs a variable {name} of shape {list(shape)}, which {have}. Make the Model with the image_size '
                'and channels of your images.'
            )
        return variable if dtype == tf.float32 else tf.cast(variable, dtype)

    def _select(self, images, training, names, size=None):
        # The size is part of the signature: pooling kernels depend on it, so that no trace may serve two.
        if size is not None:
            images = tf.ensure_shape(images, [None, *size])
        logits, end_points = self.build(images, training)
        return tf.cast(logits, tf.float32) if names is None else {name: end_points[name] for name in names}

    def _run(self, images, training, names):
        # Eagerly, a function that is traced once: it drops the endpoints that are not asked for, and Python's cost.
        if tf.inside_function() or not tf.executing_eagerly():
            return self._select(images, training, names)
        images = tf.convert_to_tensor(images)
        return self._compiled(images, training, names, tuple(images.shape[1:]))


def create_model(network: str, num_classes: int | None = None, **kwargs) -> Model:
    """A `Model`: see there for the arguments."""
    return Model(network, num_classes, **kwargs)


def _blueprint(build, input_shape):
    """Builds once, for training, in a graph to throw away; returns the variables' specs and the endpoints' shapes."""
    specs = {}

    def record(getter, name, initializer=None, trainable=True, regularizer=None, **kwargs):
        layers_own = tf_slim_compat.layer_regularizer()
        variable = getter(name, initializer=initializer, trainable=trainable, regularizer=regularizer, **kwargs)
        specs.setdefault(name, _Spec(tuple(variable.shape), initializer, trainable, regularizer or layers_own))
        return variable

    with tf.Graph().as_default(), tf.compat.v1.variable_scope('', custom_getter=record):
        _, end_points = build(tf.compat.v1.placeholder(tf.float32, input_shape), True)
    return specs, {name: tensor.shape.as_list() for name, tensor in end_points.items()}


def _make_variable(name, spec):
    # Replicas see different batches: each keeps its own moving statistics, and whoever reads them gets the mean.
    moving = {} if spec.trainable else {'aggregation': tf.VariableAggregation.MEAN,
                                        'synchronization': tf.VariableSynchronization.ON_READ}
    initializer = spec.initializer() if isinstance(spec.initializer, type) else spec.initializer
    return tf.Variable(lambda: initializer(spec.shape, dtype=tf.float32), trainable=spec.trainable, name=name, **moving)


def _with_batch_norm_decay(scope, change):
    """A copy of an arg scope in which every decay of a batch norm has gone through `change`."""
    key = slim.arg_scope_func_key(slim.batch_norm)

    def changed(params):
        return {**params, 'decay': change(params.get('decay', 0.999))}

    result = {}
    for op, params in scope.items():
        normalizer = params.get('normalizer_fn')
        if op == key:
            params = changed(params)
        elif normalizer is not None and getattr(normalizer, '__name__', '') == slim.batch_norm.__name__:
            params = {**params, 'normalizer_params': changed(params.get('normalizer_params') or {})}
        result[op] = params
    return result
