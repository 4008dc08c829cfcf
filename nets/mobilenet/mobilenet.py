"""What builds a MobileNet V2 or V3 from its rows.

A network is a dictionary (TF-Slim's `conv_defs`): `spec` is a list of rows, each an `op`; `defaults` and, optionally,
`overrides` are arg scopes that hold for all rows, functions -> arguments.
"""
import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim

import tf_slim_compat  # noqa: F401
from nets import heads, recompute, table
from nets.atrous import fixed_padding, strides_and_rates
from nets.mobilenet.conv_blocks import make_divisible
from nets.scopes import Net, Scope, network_scope

NoOpScope = contextlib.nullcontext
# What `expanded_conv` reports that is an endpoint of the network.
_INNER_ENDPOINTS = ('expansion_output', 'depthwise_output', 'output')


@slim.add_arg_scope
def apply_activation(x: tf.Tensor, name: str | None = None, activation_fn: Callable | None = None) -> tf.Tensor:
    """Returns `activation_fn(x, name=name)`, or x where the arg scope and the caller give no function."""
    return activation_fn(x, name=name) if activation_fn else x


def safe_arg_scope(funcs: list[Callable], **kwargs) -> contextlib.AbstractContextManager:
    """Returns `slim.arg_scope(funcs, ...)` without the arguments that are None, which so keep what holds outside."""
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    return slim.arg_scope(funcs, **kwargs) if kwargs else NoOpScope()


@slim.add_arg_scope
def depth_multiplier(output_params: dict[str, Any], multiplier: float, divisible_by: int = 8,
                     min_depth: int | None = 8, **unused_kwargs) -> None:
    """Multiplies `num_outputs` in a row's arguments, in place.

    Args:
      output_params: the arguments; without `num_outputs` they are left as they are.
      multiplier: the factor.
      divisible_by: what the result is a multiple of.
      min_depth: what it is at least; `divisible_by` if None.
      **unused_kwargs: ignored, so that rows with other multipliers can stand beside.
    """
    if 'num_outputs' in output_params:
        output_params['num_outputs'] = make_divisible(output_params['num_outputs'] * multiplier, divisible_by,
                                                      min_depth)


class Op(NamedTuple):
    """A row; `op` makes one.

    Attributes:
      op: the function, `(net, **params) -> net`.
      params: its arguments.
      multiplier_func: `(params, multiplier)`, which applies a depth multiplier to them, in place.
    """

    op: Callable[..., tf.Tensor]
    params: dict[str, Any]
    multiplier_func: Callable[..., None]


def op(opfunc: Callable[..., tf.Tensor], multiplier_func: Callable[..., None] = depth_multiplier, **params) -> Op:
    """Returns a row: a function, its arguments, and how a depth multiplier changes these.

    A function that takes `stride`, `rate`, `use_explicit_padding` or `endpoints` is given them as the network needs.
    """
    return Op(opfunc, params, multiplier_func)


def keep_last_layer(conv_defs: dict[str, Any]) -> dict[str, Any]:
    """Returns conv_defs whose last row no depth multiplier below one makes thinner.

    It feeds the classes, of which there are no fewer in a thin network (arXiv:1801.04381, section 5).
    """
    *rows, last = conv_defs['spec']

    def multiply(params, multiplier):
        last.multiplier_func(params, max(multiplier, 1.0))

    return {**conv_defs, 'spec': [*rows, last._replace(multiplier_func=multiply)]}


@contextlib.contextmanager
def _arg_scopes(conv_defs):
    with contextlib.ExitStack() as stack:
        for scopes in (conv_defs.get('defaults', {}), conv_defs.get('overrides', {})):
            for functions, arguments in scopes.items():
                stack.enter_context(slim.arg_scope(functions, **arguments))
        yield


def _rows(conv_defs, multiplier, output_stride, use_explicit_padding, inner):
    """The network as a table; what a row reports beside its output goes to `inner`."""
    rows = [(row, dict(row.params), inspect.signature(row.op).parameters) for row in conv_defs['spec']]
    strides = [params.get('stride', 1) for _, params, _ in rows]
    for number, ((row, params, takes), (stride, rate)) in enumerate(
            zip(rows, strides_and_rates(strides, output_stride), strict=True), start=1):
        row.multiplier_func(params, multiplier)
        if 'stride' in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            params['stride'] = stride
        kernel_size = params.get('kernel_size')
        if rate > 1 and 'rate' in takes and kernel_size not in (1, (1, 1), [1, 1]):
            params['rate'] = rate
        padding = None
        if use_explicit_padding and 'use_explicit_padding' in takes:
            params['use_explicit_padding'] = True
        elif use_explicit_padding and 'padding' in takes and kernel_size is not None:
            params['padding'] = 'VALID'
            padding = functools.partial(fixed_padding, kernel_size=kernel_size, rate=params.get('rate', 1))
        if 'endpoints' in takes:
            params['endpoints'] = inner[f'layer_{number}'] = {}
        yield f'layer_{number}', functools.partial(_build_row, row.op, params, padding)


def _build_row(function, params, padding, net, scope):
    # `build` may be inside a scope that was opened before: the row's op names are that scope's all the same.
    with tf.name_scope(tf.compat.v1.get_variable_scope().original_name_scope):
        return function(padding(net) if padding else net, **params)


@slim.add_arg_scope
def mobilenet_base(inputs: tf.Tensor, conv_defs: dict[str, Any], multiplier: float = 1.0,
                   final_endpoint: str | None = None, output_stride: int | None = None,
                   use_explicit_padding: bool = False,
                   scope: Scope = None,
                   is_training: bool | tf.Tensor | None = False) -> Net:
    """Builds the rows of a network up to an endpoint.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      conv_defs: the network, see above.
      multiplier: factor of all numbers of channels.
      final_endpoint: where to stop: `layer_1` is the first row; None builds all.
      output_stride: where the product of the strides has reached this, layers are dilated in place of strided.
      use_explicit_padding: whether the padding depends on the kernels alone, and not on the size of the map.
      scope: variable scope.
      is_training: whether batch norm takes the batch's own statistics; None leaves that to the arg scope.

    Returns:
      The last output, [batch, height, width, channels], and a dictionary endpoint -> output: first the rows, then
      what lies within them, `layer_2/depthwise_output` for one.

    Raises:
      ValueError: the endpoint or an argument is not valid (nothing has been built then), or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    if multiplier <= 0:
        raise ValueError(f'The depth multiplier must be greater than zero; it is {multiplier}.')
    inner: dict[str, dict[str, tf.Tensor]] = {}
    # Its rows hand out what lies within them, and count: they cannot be computed again.
    with safe_arg_scope([slim.batch_norm], is_training=is_training), _arg_scopes(conv_defs), \
            recompute.recomputed(False):
        rows = list(_rows(conv_defs, multiplier, output_stride, use_explicit_padding, inner))
        net, end_points = table.build(rows, inputs, final_endpoint, scope, default_name=_name(scope))
    for row, found in inner.items():
        end_points.update((f'{row}/{name}', found[name]) for name in _INNER_ENDPOINTS if name in found)
    return net, end_points


@slim.add_arg_scope
def mobilenet(inputs: tf.Tensor, num_classes: int | None = 1001, prediction_fn: Callable | None = slim.softmax,
              reuse: bool | None = None, scope: Scope = 'Mobilenet',
              base_only: bool = False, use_reduce_mean_for_pooling: bool = False,
              **mobilenet_args) -> Net:
    """Builds a network with its classifier.

    Args:
      inputs: float images [batch, height, width, channels] in [-1, 1]; all but the channels may be unknown.
      num_classes: number of classes; 0 or None leaves the classifier out.
      prediction_fn: `(logits, name) -> predictions`; None makes none.
      reuse: whether to take the variables that are there.
      scope: variable scope.
      base_only: whether to leave out the pooling and the classifier.
      use_reduce_mean_for_pooling: whether the last pooling is a mean, also where the size of the map is known.
      **mobilenet_args: of `mobilenet_base`: conv_defs and others.

    Returns:
      Logits [batch, num_classes], or without classes the pooled features [batch, 1, 1, channels]; and a dictionary
      endpoint -> output, with `global_pool`, `Logits` and `Predictions`. Outputs have the images' type, predictions at
      least float32.

    Raises:
      ValueError: an argument is not valid, or the images do not fit.
      RuntimeError: called eagerly or in a tf.function, and nothing would hold the variables.
    """
    is_training = mobilenet_args.get('is_training', False)
    with network_scope(scope, _name(scope), inputs, reuse) as opened, tf.name_scope(opened.original_name_scope):
        net, end_points = mobilenet_base(inputs, scope=opened, **mobilenet_args)
        if base_only:
            return net, end_points
        net = tf.identity(net, name='embedding')
        with tf.compat.v1.variable_scope('Logits'):
            net = end_points['global_pool'] = global_pool(net, use_reduce_mean_for_pooling)
            if not num_classes:
                return net, end_points
            with safe_arg_scope([slim.dropout], is_training=is_training):
                net = slim.dropout(net, scope='Dropout')
            logits = slim.conv2d(net, num_classes, 1, activation_fn=None, normalizer_fn=None, scope='Conv2d_1c_1x1')
            logits = tf.identity(heads.squeeze(logits, name='Squeeze'), name='output')
            end_points['Logits'] = logits
        if prediction_fn:
            end_points['Predictions'] = prediction_fn(heads.in_float32(logits), 'Predictions')
    return logits, end_points


def _name(scope):
    return scope if isinstance(scope, str) else getattr(scope, 'name', 'Mobilenet')


def global_pool(input_tensor: tf.Tensor, use_reduce_mean_for_pooling: bool = False,
                pool_op: Callable = tf.compat.v1.nn.avg_pool) -> tf.Tensor:
    """Pools over the whole map.

    Args:
      input_tensor: [batch, height, width, channels].
      use_reduce_mean_for_pooling: whether to take the mean with `tf.reduce_mean`, as is done anyway where height or
        width are unknown (`avg_pool` has to know them).
      pool_op: `(input, ksize=, strides=, padding=) -> output`.

    Returns:
      [batch, 1, 1, channels].

    Raises:
      ValueError: another `pool_op` is given, and height or width are unknown.
    """
    sizes = input_tensor.shape.as_list()[1:3]
    if use_reduce_mean_for_pooling or (None in sizes and pool_op is tf.compat.v1.nn.avg_pool):
        return tf.reduce_mean(input_tensor, [1, 2], keepdims=True, name='ReduceMean')
    if None in sizes:
        raise ValueError(f'{getattr(pool_op, "__name__", pool_op)} has to know the size of the map, which is '
                         f'{sizes[0]}x{sizes[1]}.')
    return pool_op(input_tensor, ksize=[1, *sizes, 1], strides=[1, 1, 1, 1], padding='VALID')


def training_scope(is_training: bool | tf.Tensor | None = True, weight_decay: float = 0.00004, stddev: float = 0.09,
                   dropout_keep_prob: float = 0.8, bn_decay: float = 0.997) -> dict:
    """Returns the arg scope that MobileNet V2 and V3 are built under.

    Without it they are built for evaluation, with tf-slim's initial weights and without weight decay.

    Args:
      is_training: whether to drop out, and to normalize by the batch's own statistics; None leaves both to other arg
        scopes.
      weight_decay: factor of the L2 loss of the weights, but for depthwise ones.
      stddev: of the truncated normal that weights begin with; negative for tf-slim's (Glorot's) uniform.
      dropout_keep_prob: share of the features that dropout keeps.
      bn_decay: decay of batch norm's moving statistics.
    """
    initializer = (slim.initializers.xavier_initializer() if stddev < 0 else
                   tf.compat.v1.truncated_normal_initializer(stddev=stddev))
    with safe_arg_scope([mobilenet_base, mobilenet], is_training=is_training), \
            safe_arg_scope([slim.batch_norm], is_training=is_training, decay=bn_decay), \
            safe_arg_scope([slim.dropout], is_training=is_training, keep_prob=dropout_keep_prob), \
            slim.arg_scope([slim.conv2d, slim.fully_connected, slim.separable_conv2d],
                           weights_initializer=initializer, normalizer_fn=slim.batch_norm), \
            slim.arg_scope([slim.separable_conv2d], weights_regularizer=None), \
            slim.arg_scope([slim.conv2d], weights_regularizer=slim.l2_regularizer(weight_decay)) as scope:
        return scope


def show_arguments(network: Callable) -> Callable:
    """A decorator: its signature also names what the `**kwargs` of a network pass on to `mobilenet`."""
    own = inspect.signature(network)
    further = {**inspect.signature(mobilenet).parameters, **inspect.signature(mobilenet_base).parameters}
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [p.replace(kind=p.KEYWORD_ONLY) for name, p in further.items()
                   if name not in (*own.parameters, 'inputs', 'multiplier', 'mobilenet_args')]
    network.__signature__ = own.replace(parameters=parameters)
    return network


def wrapped_partial(func: Callable, *args, **kwargs) -> Callable:
    """Returns `functools.partial(func, ...)` with the attributes of `func`, its documentation for one."""
    return functools.update_wrapper(functools.partial(func, *args, **kwargs), func)
