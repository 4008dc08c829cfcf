"""Any network of the registry as a `tf.Module` that holds its own variables: eager code, `tf.function`, Keras.

TF-Slim's builders ask `get_variable` for their variables, which outside a TF1 graph makes new ones at each call.
`Model` answers these requests itself, through the variable scope's `custom_getter`, from a dictionary name ->
`tf.Variable` that it fills once. No graph collection is involved, so replica threads cannot race. Parameters are
float32; a layer that computes in another type is handed its weight cast.
"""
import contextlib
import fnmatch
import functools
import inspect
import numbers
import os
import re
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat
from nets import blueprint, checkpoints, heads, names, registry
from nets.scopes import EndPoints, Net

# What a Model gives a builder itself.
_OWN_ARGUMENTS = ('num_classes', 'is_training', 'reuse', 'scope', 'final_endpoint', 'current_step')


# What `reset_classifier` changes.
_DESIGN = ('by_name', 'num_classes', 'final_endpoint', 'pool', 'hidden_units', '_own_head', 'endpoint_shapes', '_plan')


class _Mode(NamedTuple):
    """What `Model.build` is told besides the images."""

    training: bool
    batch_norm_decay: Callable | None = None
    dropout_seed: tf.Tensor | None = None
    step: tf.Tensor | None = None


class Model(tf.Module):
    """A network and its variables.

    Args:
      network: a name of `nets.registry.NETWORKS`.
      num_classes: the number of logits; None or 0 for features without a classifier.
      image_size: the side of the square images that its variables are made for (only networks whose fully connected
        layers see the whole image depend on it); the network's `default_image_size` if None. Above that, `global_pool`
        is on. The size of its published evaluation (`eval_image_size`) plays no part here.
      channels: of the images; those of the published weights if None.
      weight_decay: given to the network's arg scope, which regularizes the weights with it.
      final_endpoint: where to cut the network; nothing behind it is made. Without `num_classes` a call returns that
        endpoint's map.
      pool: what becomes of the last map before a classifier of one's own, or without classes: one of
        `nets.heads.POOLS`. None is the network's own way, or `avg` where `final_endpoint` cut that off.
      hidden_units: widths of fully connected layers with ReLU between the pooling and the logits.
      pretrained: weights to start from: True for the published ones, or what `nets.weights.read` takes: a checkpoint,
        another library's file, an archive or a URL. Published weights are downloaded once, see
        `nets.weights.published`, and are the moving averages where there are some. A classifier for another number of
        classes keeps its initial values, and a first layer for another number of channels is made of the one there
        is: of colours summed for one channel, repeated for more.
      **kwargs: further arguments of the builder, `create_aux_logits=True` for one. Where one of the three above makes
        the classifier one's own, those of the base function and `dropout_keep_prob`, which is 1 by default.

    Raises:
      ValueError: the name is not a network's, or the builder refuses its arguments.
      nets.checkpoints.CheckpointError: the weights cannot be had, or are of another network.

    Attributes:
      by_name: variable name, as in TF-Slim's checkpoints -> `tf.Variable`, in creation order.
      endpoint_shapes: endpoint name -> shape (batch and frames unknown) for training, in the order of the network.
    """

    def __init__(self, network: str, num_classes: int | None = None, *, image_size: int | None = None,
                 channels: int | None = None, weight_decay: float = 0.0, final_endpoint: str | None = None,
                 pool: str | None = None, hidden_units: Sequence[int] = (), pretrained: bool | str = False,
                 **kwargs: Any):
        row = registry.get(network)
        super().__init__(name=re.sub(r'\W', '_', row.name))
        self.network, self.weight_decay = network, float(weight_decay)
        for what, value in (('image_size', image_size), ('channels', channels)):
            if value is not None and not _is_count(value):
                raise ValueError(f'{what} must be a whole number above 0; it is {value!r}.')
        self.image_size, self.channels = image_size or row.default_image_size, channels or row.channels
        self._row, self._arguments = row, types.MappingProxyType(kwargs)
        self._frozen: frozenset[str] = frozenset()
        self._keras = types.SimpleNamespace(weights=None)       # what `as_keras` made of the variables
        self.by_name: dict[str, tf.Variable] = {}
        self._design(num_classes, final_endpoint, pool, hidden_units)
        if pretrained is not False and pretrained is not None:
            self._start_from(pretrained)

    def _design(self, num_classes, final_endpoint, pool, hidden_units):
        """Settles what is built, and makes the variables that are not there yet."""
        registry.check_num_classes(num_classes)
        if pool is not None and pool not in heads.POOLS:
            raise names.unknown('pool', pool, heads.POOLS)
        hidden_units = [hidden_units] if isinstance(hidden_units, int) else list(hidden_units)
        if not all(map(_is_count, hidden_units)):
            raise ValueError(f'hidden_units must be whole numbers above 0; they are {hidden_units}.')
        if hidden_units and not num_classes:
            raise ValueError('hidden_units stand before a classifier: give num_classes too.')
        self.num_classes, self.final_endpoint = num_classes, final_endpoint
        self.pool, self.hidden_units = pool, tuple(hidden_units)
        self._own_head = bool(final_endpoint or pool or hidden_units)
        takes = [*self._takes(self._row.build_base), 'dropout_keep_prob'] if self._own_head else \
            self._takes(self._row.build)
        for name in self._arguments:
            if name not in takes:
                raise names.unknown(f'argument of {self.network}', name, takes)

        plan = self._draw(num_classes)
        self.endpoint_shapes = plan.shapes
        kept = {name: variable for name, variable in self.by_name.items()
                if name in plan.specs and tuple(variable.shape) == plan.specs[name].shape}
        self.by_name = {name: kept[name] if name in kept else spec.make(name) for name, spec in plan.specs.items()}
        self._plan = types.SimpleNamespace(specs=plan.specs, behind=plan.behind, base=None)
        self._forget_traces()

    def _draw(self, num_classes):
        return self._draw_on_paper(lambda images, training: self._build(images, _Mode(training), num_classes))

    def _draw_on_paper(self, build):
        batch = [None, None] if self.takes_videos else [None]      # and frames, of which any number will do
        return blueprint.draw(build, [*batch, self.image_size, self.image_size, self.channels])

    def _base_endpoints(self):
        if self._plan.base is None:
            with tf.init_scope():       # not in the graph of a function that is being traced
                plan = self._draw_on_paper(lambda images, training: self._base(images, _Mode(training), None))
            self._plan.base = set(plan.shapes)
        return self._plan.base

    def _forget_traces(self):
        # In a namespace, where tf.Module does not look: a SavedModel holds its signatures alone.
        self._traced = types.SimpleNamespace(
            # Partial: TensorFlow counts traces by code, and warns of too many where there are many models.
            run=tf.function(functools.partial(self._select), autograph=False, reduce_retracing=True))

    def _takes(self, builder):
        """The arguments of a builder that a caller may give; those of the whole network where it passes them on."""
        if _passes_on(builder):
            return self._takes(self._row.build)
        return [name for name in list(inspect.signature(builder).parameters)[1:] if name not in _OWN_ARGUMENTS]

    @property
    def takes_videos(self) -> bool:
        """Whether it takes [batch, frames, height, width, channels]."""
        return self._row.frames is not None

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables, moving statistics included, in creation order."""
        return [self.by_name[name] for name in self._plan.specs]

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The variables to train, in creation order; frozen ones are not among them."""
        return [self.by_name[name] for name in self._plan.specs
                if self._plan.specs[name].trainable and name not in self._frozen]

    @property
    def non_trainable_variables(self) -> list[tf.Variable]:
        """The moving statistics, and what is frozen, in creation order."""
        trained = {id(variable) for variable in self.trainable_variables}
        return [variable for variable in self.variables if id(variable) not in trained]

    def freeze(self, patterns: Iterable[str] | str | None = None, *, up_to: str | None = None) -> None:
        """Leaves variables out of `trainable_variables`; their batch norms use and keep their moving statistics.

        What was traced or compiled before does not know of it: a `tf.function` of one's own, a Keras model.

        Args:
          patterns: names of variables or scopes, with wildcards: `InceptionV1/Conv2d*`, `InceptionV1/Mixed_3b`. None,
            without `up_to`, is all.
          up_to: an endpoint, in place of patterns: it and all that it needs.

        Raises:
          ValueError: there is no such endpoint, no variable fits a pattern, or both are given.
        """
        if patterns is not None and up_to is not None:
            raise ValueError('freeze takes patterns or up_to, not both: call it twice.')
        if up_to is None:
            self._frozen |= set(self._matching('*' if patterns is None else patterns))
        elif up_to in self._plan.behind:
            self._frozen |= set(self._plan.behind[up_to])
        else:
            raise names.unknown(f'endpoint of {self.network}', up_to, self.endpoint_shapes)
        self._frozen_changed()

    def unfreeze(self, patterns: Iterable[str] | str = '*') -> None:
        """Undoes `freeze` for the variables or scopes of these names; raises ValueError where there are none."""
        self._frozen -= set(self._matching(patterns))
        self._frozen_changed()

    def _frozen_changed(self):
        self._forget_traces()
        if self._keras.weights is not None:
            self._keras.weights.follow(self)

    @property
    def frozen(self) -> list[str]:
        """The names of the variables that `freeze` was called for, in creation order."""
        return [name for name in self._plan.specs if name in self._frozen]

    def _matching(self, patterns):
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            found = [name for name in self._plan.specs
                     if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f'{pattern}/*')]
            if not found:
                raise names.unknown(f'variable or scope of {self.network}', pattern, _scopes(self._plan.specs))
            yield from found

    def reset_classifier(self, num_classes: int | None, *, pool: str | None = None,
                         hidden_units: Sequence[int] | None = None) -> None:
        """Gives the network a new classifier with initial weights, auxiliary ones too, and keeps all else.

        Args:
          num_classes: the number of logits; None or 0 for none.
          pool, hidden_units: see the class; None for what they are.

        Raises:
          ValueError: an argument is wrong, or there is a Keras model of the old one; nothing has changed then.
        """
        if self._keras.weights is not None:
            raise ValueError('as_keras has made a Keras model of this classifier: reset it before, or make a new '
                             'Model.')
        before = {name: getattr(self, name) for name in _DESIGN}
        hidden_units = (self.hidden_units if num_classes else ()) if hidden_units is None else hidden_units
        of_the_features = self._draw(None).specs
        try:
            self.by_name = {name: variable for name, variable in self.by_name.items() if name in of_the_features}
            self._design(num_classes, self.final_endpoint, pool or self.pool, hidden_units)
        except Exception:
            for name, value in before.items():
                setattr(self, name, value)
            raise
        self._frozen &= set(of_the_features)

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits [batch, num_classes], float32; computed in the type of the images [batch, height, width, channels].

        Networks of videos take [batch, frames, height, width, channels], with any number of frames. Without classes,
        the network's last output.
        """
        return self._run(images, training, None)

    def features(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The vector of each image that a classifier would see, [batch, features], float32."""
        return self._run(images, training, 'features')

    def endpoints(self, images: tf.Tensor, names: Iterable[str] | str = '*',
                  training: bool = False) -> dict[str, tf.Tensor]:
        """The endpoints of these names or patterns (`Mixed_5*`), computing nothing that they do not need.

        Raises:
          ValueError: a name that no endpoint has.
        """
        asked = [names] if isinstance(names, str) else list(names)
        found = self._run(images, training, self.find_endpoints(asked))
        for name in asked:
            if name in self.endpoint_shapes and name not in found:
                raise ValueError(f'{self.network} has the endpoint {name!r} in training alone.')
        return found

    def find_endpoints(self, patterns: Iterable[str] | str) -> tuple[str, ...]:
        """The endpoints of these names or patterns, in the order of the network; ValueError where there is none."""
        wanted = set()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            found = fnmatch.filter(self.endpoint_shapes, pattern)
            if not found:
                raise names.unknown(f'endpoint of {self.network}', pattern, self.endpoint_shapes)
            wanted.update(found)
        return tuple(name for name in self.endpoint_shapes if name in wanted)

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
        return self._held(self._build, images, _Mode(training, batch_norm_decay, dropout_seed, step), self.num_classes)

    def regularization_loss(self, of: Callable[[str], bool] | None = None) -> tf.Tensor:
        """The sum of the regularizers that the network's arg scope gives its variables; a float32 scalar.

        Args:
          of: says by its name whether a variable is to be counted; None for all.
        """
        losses = [spec.regularizer(self.by_name[name]) for name, spec in self._plan.specs.items()
                  if spec.regularizer and (of is None or of(name))]
        losses = [loss for loss in losses if loss is not None]  # slim.l2_regularizer(0.0) gives None
        return tf.add_n(losses) if losses else tf.constant(0.0)

    def restore(self, path: str | os.PathLike, *, exclude: Iterable[str] | str = (), ignore_missing: bool = False,
                moving_averages: bool = False) -> list[str]:
        """Takes weights from a checkpoint, or from any file that `nets.weights.read` takes; all of them or none.

        Args:
          path: of the file, or a folder with a checkpoint.
          exclude: beginnings of names of variables to leave as they are: `InceptionV1/Logits`.
          ignore_missing: leave those as they are that the file lacks.
          moving_averages: take the exponential moving averages that the training kept.

        Returns:
          The names of the variables that the file lacks.

        Raises:
          ValueError: no variable begins with what is to be excluded.
          nets.checkpoints.CheckpointError: there is no such file, it is damaged, or it does not fit: then every
            missing, extra and misshapen variable is named, and nothing has been changed.
        """
        from nets import weights
        exclude = tuple(filter(None, [exclude] if isinstance(exclude, str) else exclude))
        for prefix in exclude:
            if not any(name.startswith(prefix) for name in self.by_name):
                raise names.unknown(f'variable or scope of {self.network}', prefix, _scopes(self._plan.specs))
        wanted = {name: variable for name, variable in self.by_name.items() if not name.startswith(exclude)}
        return checkpoints.restore(weights.read(path, self._row), wanted, ignore_missing=ignore_missing,
                                   moving_averages=moving_averages)

    def save(self, folder: str, step: int = 0, patterns: Iterable[str] | str = '*') -> str:
        """Writes a checkpoint `model.ckpt-STEP` that TF-Slim's programs read; returns its prefix.

        Args:
          folder: where to; it is made if it is not there. Other checkpoints in it stay.
          step: its `global_step`.
          patterns: names of the variables or scopes to write.

        Raises:
          ValueError: no variable fits a pattern.
          nets.checkpoints.CheckpointError: it cannot be written.
        """
        values = {name: self.by_name[name] for name in self._matching(patterns)}
        return checkpoints.save(folder, step, {**values, 'global_step': tf.constant(step, tf.int64)}, keep=None)

    def signatures(self, endpoints: Iterable[str] | str = (), dtype: tf.DType = tf.float32) -> dict[str, Callable]:
        """What to give `tf.saved_model.save(model, path, signatures=model.signatures())`.

        Args:
          endpoints: names or patterns of endpoints to serve too.
          dtype: of the images, and what is computed in.

        Returns:
          `serving_default`, from `images` [batch, image_size, image_size, channels] to `logits` and `probabilities` (or
          `features` where there is no classifier), and with endpoints `endpoints`.
        """
        served = self.find_endpoints(endpoints) if endpoints else ()
        frames = [None] if self.takes_videos else []
        images = tf.TensorSpec([None, *frames, self.image_size, self.image_size, self.channels], dtype, 'images')

        def serve(images):
            output = self._select(images, False, None)
            if not self.num_classes:
                return {'features': output}
            return {'logits': output, 'probabilities': heads.predictions(output)}

        functions = {'serving_default': serve}
        if served:
            functions['endpoints'] = lambda images: self._select(images, False, served)
        return {name: tf.function(function, input_signature=[images], autograph=False)
                for name, function in functions.items()}

    def as_keras(self, endpoints: Iterable[str] | str = (), name: str | None = None):
        """A Keras 3 model with this one's weights, which are the same variables from then on; see `nets.keras_model`.

        Args:
          endpoints: names or patterns of endpoints, which are then the outputs, by name, in place of the logits.
          name: of the Keras model; two in one larger model need different ones.
        """
        from nets import keras_model
        return keras_model.as_keras(self, endpoints, name)

    def keras_weights(self, make: Callable[['Model'], Any]) -> Any:
        """The Keras layer that holds the variables, which `make` makes once; for `nets.keras_model`."""
        if self._keras.weights is None:
            self._keras.weights = make(self)
        return self._keras.weights

    def spec_of(self, name: str) -> blueprint.Spec:
        """What a variable is: its shape, initializer, regularizer, and whether it can be trained."""
        return self._plan.specs[name]

    def adopt(self, variables: dict[str, tf.Variable]) -> None:
        """Takes these variables in place of those of the same names, and their values with them."""
        self.by_name.update(variables)
        self._forget_traces()

    def config(self) -> dict[str, Any]:
        """The arguments that make such a model, without its weights."""
        return dict(network=self.network, num_classes=self.num_classes, image_size=self.image_size,
                    channels=self.channels, weight_decay=self.weight_decay, final_endpoint=self.final_endpoint,
                    pool=self.pool, hidden_units=list(self.hidden_units), **self._arguments)

    def _held(self, build, *args):
        # The root, whatever scope the caller is in: the variables' names are the checkpoint's.
        root = tf.compat.v1.VariableScope(tf.compat.v1.AUTO_REUSE, custom_getter=self._get)
        frozen = {name.rpartition('/')[0] for name in self._frozen}
        with tf.compat.v1.variable_scope(root, auxiliary_name_scope=False), tf_slim_compat.frozen_batch_norm(frozen):
            return build(*args)

    def _build(self, images, mode, num_classes):
        """(logits, end_points); without classes the first is the features, or the map that the network is cut at."""
        if not self._own_head:
            return self._whole(images, mode, num_classes)
        net, end_points = self._base(images, mode, self.final_endpoint)
        if self.pool or num_classes:
            net = heads.pooled(net, self.pool or 'avg')
        if num_classes:
            with self._scope(mode):
                net = heads.fully_connected_logits(net, end_points, num_classes, self.hidden_units, self.weight_decay)
        return net, end_points

    def _whole(self, images, mode, num_classes):
        build, arguments = self._row.build, dict(self._arguments)
        if self.image_size > self._row.default_image_size and 'global_pool' in self._takes(build):
            arguments.setdefault('global_pool', True)  # the pooling before the logits is as large as the default needs
        with self._arg_scope(mode):
            return build(images, num_classes, is_training=mode.training, **arguments, **_step_for(build, mode.step))

    def _base(self, images, mode, final_endpoint):
        build = self._row.build_base
        arguments = {name: self._arguments[name] for name in self._takes(build) if name in self._arguments}
        if final_endpoint:
            arguments['final_endpoint'] = final_endpoint
        if self._row.scope:
            arguments['scope'] = self._row.scope
        if _passes_on(build):       # to the whole network's function, which has a default of its own
            arguments['is_training'] = mode.training
        with self._scope(mode):
            return build(images, **arguments, **_step_for(build, mode.step))

    @contextlib.contextmanager
    def _scope(self, mode):
        """What the builders of whole networks open themselves; a base function leaves it to its caller."""
        kept = self._arguments.get('dropout_keep_prob', 1.0 if self._own_head else None)
        with self._arg_scope(mode), slim.arg_scope([slim.batch_norm, slim.dropout], is_training=mode.training), \
                slim.arg_scope([slim.dropout], **({} if kept is None else {'keep_prob': kept})):
            yield

    @contextlib.contextmanager
    def _arg_scope(self, mode):
        scope = self._row.make_arg_scope(weight_decay=self.weight_decay)
        if mode.batch_norm_decay:
            scope = _with_batch_norm_decay(scope, mode.batch_norm_decay)
        with slim.arg_scope(scope), slim.arg_scope([slim.dropout], seed=mode.dropout_seed):
            yield

    def _end_points(self, images, training, wanted) -> EndPoints:
        """Builds no further than the last that is wanted, where the base function has it."""
        order = list(self.endpoint_shapes) if self._row.base is not None else []
        stops = order[order.index(wanted[-1]):] if order else []
        if training:    # what is built updates its moving statistics: nothing may be built in vain
            stops = [wanted[-1]] if set(wanted) <= self._base_endpoints() else []
        for stop in stops:
            # What lies within a row, or in the classifier, is refused at once.
            with contextlib.suppress(names.UnknownNameError):
                _, end_points = self._held(self._base, images, _Mode(training), stop)
                if all(name in end_points for name in wanted):
                    return end_points
        return self.build(images, training)[1]

    def _select(self, images, training, wanted, size=None):
        # The size is part of the signature: pooling kernels depend on it, so that no trace may serve two.
        if size is not None:
            images = tf.ensure_shape(images, [None, *size])
        if wanted is None:
            return tf.cast(self.build(images, training)[0], tf.float32)
        if wanted == 'features':
            net, _ = self._held(self._build, images, _Mode(training), None)
            return tf.cast(heads.pooled(net, self.pool or 'avg') if net.shape.rank > 2 else net, tf.float32)
        end_points = self._end_points(images, training, wanted) if wanted else {}
        return {name: end_points[name] for name in wanted if name in end_points}    # some are of training alone

    def _run(self, images, training, wanted):
        # Eagerly, a function that is traced once: it drops the endpoints that are not asked for, and Python's cost.
        if tf.inside_function() or not tf.executing_eagerly():
            return self._select(images, training, wanted)
        images = tf.convert_to_tensor(images)
        return self._traced.run(images, training, wanted, tuple(images.shape[1:]))

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

    def _start_from(self, pretrained):
        from nets import weights
        from nets.weights import published
        source = weights.read(published.of(self._row) if pretrained is True else pretrained, self._row)
        wanted, changed = {}, {}
        auxiliary = tuple(blueprint.auxiliary_scopes(self.by_name))
        for name, variable in self.by_name.items():
            here, there = tuple(variable.shape), source.shapes.get(name)
            if name.startswith('Head/') or there is None and name.startswith((*source.lacks, *auxiliary)):
                continue
            if there and there != here and there[:-1] == here[:-1] and here[-1] == self.num_classes \
                    and {there[-1], here[-1]} != {1000, 1001}:
                continue                                            # a classifier for other classes
            if there and self.channels != self._row.channels and len(there) >= 4 \
                    and (there[-2], here[-2]) == (self._row.channels, self.channels) and there[-1] == here[-1]:
                if name.endswith('/depthwise_weights'):
                    raise checkpoints.CheckpointError(
                        f'The first layer of {self.network} filters each channel apart, so that its weights cannot be '
                        f'made into ones for {self.channels} channels: give it images with {self._row.channels}.')
                changed[name] = checkpoints.adapt_channels(source.value(name), self.channels)
            wanted[name] = variable
        # The accuracies of published weights are those of their averages, where they have some.
        averages = pretrained is True and any(name.endswith(checkpoints.AVERAGE) for name in source.shapes)
        checkpoints.restore(source, wanted, changed=changed, moving_averages=averages)


def create_model(network: str, num_classes: int | None = None, **kwargs) -> Model:
    """A `Model`: see there for the arguments."""
    return Model(network, num_classes, **kwargs)


def _is_count(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0


def _scopes(variables):
    return sorted({'/'.join(name.split('/')[:2]) for name in variables})


def _passes_on(builder):
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(builder).parameters.values())


def _step_for(builder, step):
    takes = step is not None and 'current_step' in inspect.signature(builder).parameters
    return {'current_step': step} if takes else {}


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
