"""Models of Keras 3, small and seeded."""

import keras


def classifier(width: int = 4):
    """An image [N, 8, 8, 1] to three logits, with BatchNorm and Dropout whose statistics are not trivial."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(image)
    x = keras.layers.BatchNormalization(
        moving_mean_initializer=keras.initializers.RandomNormal(0.0, 0.3, seed=1),
        moving_variance_initializer=keras.initializers.RandomUniform(0.5, 1.5, seed=2),
        gamma_initializer=keras.initializers.RandomUniform(0.5, 1.5, seed=3),
    )(x)
    x = keras.layers.Activation("gelu")(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, name="logits")(x))


def siamese():
    """Two inputs through the same layers; two outputs."""
    keras.utils.set_random_seed(0)
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    trunk = keras.layers.Dense(4, activation="tanh")
    gap = keras.layers.Subtract(name="gap")([trunk(left), trunk(right)])
    return keras.Model([left, right], [gap, keras.layers.Dense(1, name="score")(gap)])


def sequential():
    """Built of layers one after the other."""
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, activation="softplus"), keras.layers.Dense(2)])


def open_size():
    """Its input has an axis of any size."""
    image = keras.Input((None, None, 1), name="image")
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(image)))


def with_code():
    """Has a Lambda layer: Python code that its file would bring along."""
    x = keras.Input((3,))
    return keras.Model(x, keras.layers.Lambda(lambda t: t * 2)(x))
