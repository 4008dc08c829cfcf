"""Settings that go together, by name: what `--recipe` sets where no flag and no config file says otherwise."""
import os
from collections.abc import Mapping
from typing import Any

QUICKSTART_DIR = os.path.join('runs', 'digits')

# With neither --dataset_name nor --model_name: Inception V1 learns the embedded digits in some two minutes on two
# cores. Digits have no mirror images and no colour, hence lenet's preprocessing; TF-Slim's epsilon of 1 is for long
# runs.
QUICKSTART: Mapping[str, Any] = dict(
    train_dir=QUICKSTART_DIR, dataset_name='digits', model_name='inception_v1', preprocessing_name='lenet',
    train_image_size=32, batch_size=64, max_number_of_steps=500, optimizer='adam', opt_epsilon=1e-7,
    learning_rate=0.001, learning_rate_decay_type='polynomial', num_epochs_per_decay=22.0, log_every_n_steps=25)

# name: (what it is, settings)
RECIPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    'slim': ("TF-Slim's own defaults.", {}),
    'modern': (
        'From scratch on some thousands of photos, for tens of epochs.',
        dict(num_epochs=30.0, optimizer='adamw', opt_epsilon=1e-7, learning_rate=0.001, weight_decay=0.05,
             no_decay_on_bias_and_norm=True, warmup_epochs=1.0, learning_rate_decay_type='cosine',
             end_learning_rate=1e-5, label_smoothing=0.1, moving_average_decay=0.998, min_crop_area=0.5,
             distort_colors=False, precision='auto')),
}
