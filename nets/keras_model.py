"""A network as a Keras 3 model: `Model.as_keras`."""
import types
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from nets.blueprint import auxiliary_scopes
from nets.model import Model


class Weights(keras.layers.Layer):
    """The variables of a `Model` as weights of Keras; all Keras models that are made of it share this layer."""

    def __init__(self, model: Model):
        super().__init__(name=f'{model.name}_weights')
        self._names = tuple(model.by_name)
        self._held = [self.add_weight(
            name=name.replace('/', '.'), shape=variable.shape, dtype='float32', autocast=False,
            initializer=lambda shape, dtype, value=variable: tf.convert_to_tensor(value),
            trainable=model.spec_of(name).trainable, aggregation='mean') for name, variable in model.by_name.items()]
        model.adopt({name: weight.value for name, weight in zip(self._names, self._held, strict=True)})
        self.built = True
        self.follow(model)

    def follow(self, model: Model) -> None:
        """Trains what the model trains."""
        trained = {id(variable) for variable in model.trainable_variables}
        auxiliary = tuple(auxiliary_scopes(self._names))        # whose logits Keras has no loss for
        for name, weight in zip(self._names, self._held, strict=True):
            if model.spec_of(name).trainable:
                weight.trainable = id(weight.value) in trained and not name.startswith(auxiliary)


@keras.saving.register_keras_serializable('slim_zoo')
class Network(keras.layers.Layer):
    """A layer that is a whole network; its weights are the variables of a `nets.model.Model`.

    Images [batch, height, width, channels] become what a call of the model gives, or its endpoints by name. With
    `trainable = False` batch norm uses and keeps its moving statistics, as Keras's own does.

    Args:
      config: arguments of `Model`.
      endpoints: names of the endpoints that are the output, by name; none for what a call of the model gives.
      frozen: names of variables that are not trained.
      model: the model to take the variables of; a new one is made of `config` if None.
      **kwargs: of a Keras layer.
    """

    def __init__(self, config: dict[str, Any], endpoints: Iterable[str] = (), frozen: Iterable[str] = (),
                 model: Model | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.config, self.endpoints = dict(config), list(endpoints)
        # XLA makes training faster on GPUs, and slower on processors.
        self.supports_jit = bool(tf.config.list_physical_devices('GPU'))
        if model is None:
            model = Model(**config)
            if frozen:
                model.freeze(frozen)
        # Under a name that Keras does not look through: the variables are those of the layer below.
        self._network = types.SimpleNamespace(model=model)
        self.network_weights = model.keras_weights(Weights)
        self.built = True

    @property
    def model(self) -> Model:
        """The `Model`, whose variables are this layer's weights."""
        return self._network.model

    def call(self, images, training: bool | None = None):
        """See the class."""
        training = bool(training) and self.trainable
        if training and self.model.weight_decay:
            self.add_loss(self.model.regularization_loss())
        if self.endpoints:
            return self.model.endpoints(images, self.endpoints, training)
        return self.model(images, training)

    def get_config(self) -> dict[str, Any]:
        """What makes such a layer again, for Keras."""
        return {**super().get_config(), 'config': self.config, 'endpoints': self.endpoints,
                'frozen': self.model.frozen}


def as_keras(model: Model, endpoints: Iterable[str] | str = (), name: str | None = None) -> keras.Model:
    """A functional Keras model of one layer: for `compile` and `fit`, or as a layer of another model.

    From now on its weights and the variables of `model` are the same: what one learns, restores or saves is the other's
    too. The classifier cannot be reset any more; after `freeze`, compile again. Auxiliary classifiers are not trained:
    Keras has no loss for them. `weight_decay` of the model is one of its losses. It saves to a `.keras` file, which
    `keras.models.load_model` reads after `import nets.keras_model`.

    Args:
      model: the model.
      endpoints: names or patterns of endpoints, which are then the outputs, by name, in place of the logits.
      name: of the Keras model; two in one larger model need different ones.

    Returns:
      A `keras.Model` from images [batch, image_size, image_size, channels], or videos with frames before the height.

    Raises:
      ValueError: there is no such endpoint.
    """
    names = model.find_endpoints(endpoints) if endpoints else ()
    layer = Network(model.config(), names, model=model, name=model.name)
    frames = [None] if model.takes_videos else []
    images = keras.Input([*frames, model.image_size, model.image_size, model.channels], name='images')
    return keras.Model(images, layer(images), name=name or f'{model.name}_model')
