"""What an export is told: the flags of `export_image_classifier.py` and of TF-Slim's `export_inference_graph.py`."""
import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from nets import registry
from training.classifier_config import ClassifierConfig, classifier_config
from training.settings import GROUPS, Config, ConfigError, flag, one_of

_MOST_USED, _RUN, _DATA, _OUTPUT = GROUPS[:4]
_OLD = GROUPS[-1]
INDEX_FILE = 'export.json'


class FormatRow(NamedTuple):
    """What is known of a format before anything is exported."""

    file: str                       # in the output folder; what is to be loaded
    tolerance: float                # of probabilities, where the user gives none
    packages: tuple[str, ...] = ()  # that must be there
    extra: str = ''                 # of setup.py, that has them


_FLOAT, _LITERT = 1e-4, ('ai_edge_litert',)
FORMATS: Mapping[str, FormatRow] = {
    'saved_model': FormatRow('saved_model', _FLOAT),
    'tflite': FormatRow('model.tflite', _FLOAT, _LITERT, 'litert'),
    'tflite_float16': FormatRow('model_float16.tflite', 0.02, _LITERT, 'litert'),
    'tflite_int8': FormatRow('model_int8.tflite', 0.25, _LITERT, 'litert'),
    'onnx': FormatRow('model.onnx', _FLOAT, ('tf2onnx', 'onnx', 'onnxruntime'), 'onnx'),
    'openvino': FormatRow('model.xml', _FLOAT, ('openvino',), 'openvino'),
    'frozen_graph': FormatRow('frozen_graph.pb', _FLOAT),
}
_ALL = 'all'
_NO_QUANTIZE = 'rewriting graphs for quantization left TensorFlow with tf.contrib; export_image_classifier.py ' \
    '--format=tflite_int8 quantizes a trained network.'


@dataclasses.dataclass(frozen=True)
class InferenceGraphConfig(Config):
    """The settings of `export_inference_graph.py`, which are TF-Slim's.

    Raises:
      ConfigError: a value is out of range or unknown, something needed is not given, or two do not go together.
    """

    model_name: str = flag('inception_v3', 'The network; `python -m nets` lists them.', _MOST_USED)
    output_file: str = flag('', 'Write the graph into this file.', _MOST_USED)
    dataset_name: str = flag('imagenet', 'The dataset whose classes the network tells apart.', _DATA)
    dataset_dir: str = flag('', 'Where the dataset lies, if its name does not say how many classes it has.', _DATA)
    labels_offset: int = flag(0, 'So many classes less: 1 for VGG and ResNet V1, which have no background.', _DATA,
                              minimum=0)
    image_size: int | None = flag(None, "Height and width of the network's input; its default if not set.", _DATA,
                                  minimum=1, maximum=8192)
    use_grayscale: bool = flag(False, 'Take images with one grey channel.', _DATA)
    is_training: bool = flag(False, 'Write the graph for training: batch statistics and dropout.', _OUTPUT)
    batch_size: int | None = flag(None, 'Of the input; any if not set.', _OUTPUT, minimum=1)
    is_video_model: bool = flag(False, 'The network takes videos.', _OUTPUT)
    num_frames: int | None = flag(None, 'Of a video; any if not set.', _OUTPUT, minimum=1)
    write_text_graphdef: bool = flag(False, 'Write the graph as text.', _OUTPUT)
    verbose_tensorflow: bool = flag(False, "Show TensorFlow's own start-up messages and deprecation warnings.", _RUN)
    quantize: bool = flag(False, 'Rewrite the graph for quantization.', _OLD, instead=_NO_QUANTIZE)

    def __post_init__(self):
        super().__post_init__()
        if not self.output_file:
            raise ConfigError('--output_file is needed: where to write the graph.')
        if self.is_video_model != bool(registry.get(self.model_name).frames):
            raise ConfigError(f'--model_name={self.model_name}: it takes '
                              + ('images; leave out --is_video_model.' if self.is_video_model else
                                 'videos; --is_video_model says so.'))
        if self.num_frames and not self.is_video_model:
            raise ConfigError('--num_frames is of videos: --is_video_model.')


@dataclasses.dataclass(frozen=True)
class ExportConfig(ClassifierConfig):
    """The settings of `export_image_classifier.py`.

    Raises:
      ConfigError: a value is out of range or unknown, a format needs what is not installed, or the output would replace
        something.
    """

    format: str = flag('saved_model', f'Comma-separated list of {", ".join(FORMATS)}; or {_ALL}.', _MOST_USED)
    output_dir: str = flag('exported', 'Write into this folder, which is made.', _MOST_USED)
    overwrite: bool = flag(False, 'Replace the export that is in --output_dir already.', _OUTPUT)
    images: str | None = flag(
        None, 'A folder of images, or one image, to compare the exports with the checkpoint on; if not set, those of '
        '--dataset_name, or of what the training held out.', _DATA)
    num_images: int = flag(16, 'So many are compared.', _DATA, minimum=1)
    tolerance: float | None = flag(
        None, 'How much a probability may differ from that by the checkpoint. If not set, '
        f'{_FLOAT:g}, of tflite_float16 {FORMATS["tflite_float16"].tolerance:g}, of tflite_int8 '
        f'{FORMATS["tflite_int8"].tolerance:g}.', _OUTPUT, minimum=0.0, maximum=1.0)
    dataset_name: str | None = flag(
        None, 'tflite_int8: the dataset to calibrate on; if not set, the one of the training.', _DATA)
    dataset_dir: str | None = flag(None, 'Where that lies.', _DATA)
    dataset_split_name: str = flag('train', 'Its split.', _DATA)
    calibration_images: int = flag(200, 'tflite_int8: so many show what range the values of the maps have.', _DATA,
                                   minimum=1)

    def __post_init__(self):
        super().__post_init__()
        for name in self.formats:
            row = FORMATS[name]
            missing = [package for package in row.packages if importlib.util.find_spec(package) is None]
            if missing:
                raise ConfigError(f'--format={name} needs {" and ".join(missing)}: '
                                  f"pip install 'slim-zoo[{row.extra}]', or "
                                  f'{" ".join(package.replace("_", "-") for package in missing)}.')
        if self.is_saved_model:
            raise ConfigError(f'--checkpoint_path={self.checkpoint_path} is a SavedModel, an export already: give the '
                              'checkpoint.')
        if self.dataset_dir and not self.dataset_name:
            raise ConfigError('--dataset_dir is of --dataset_name: say what lies there, such as '
                              '--dataset_name=image_folder.')
        if '://' in self.output_dir:
            raise ConfigError(f'--output_dir={self.output_dir}: it must be a folder of this machine.')
        self._check_output()

    def _check_output(self):
        there = self.output_dir
        if not os.path.exists(there) or os.path.isdir(there) and not os.listdir(there):
            return
        if not os.path.exists(os.path.join(there, INDEX_FILE)):
            raise ConfigError(f'--output_dir={there} is there already, and is no export: give a new folder.')
        if not self.overwrite:
            raise ConfigError(f'--output_dir={there} holds an export already: --overwrite replaces it.')

    @property
    def formats(self) -> list[str]:
        """The formats to export to, each once, in the order of `FORMATS`."""
        given = [name.strip() for name in self.format.split(',') if name.strip()]
        for name in given:
            if name not in (*FORMATS, _ALL):
                raise ConfigError(f'--format={name}: {one_of(name, (*FORMATS, _ALL))}')
        if not given:
            raise ConfigError(f'--format={self.format}: name one of {", ".join((*FORMATS, _ALL))}.')
        return [name for name in FORMATS if name in given or _ALL in given]

    def tolerance_of(self, name: str) -> float:
        """How much the probabilities of a format may differ."""
        return FORMATS[name].tolerance if self.tolerance is None else self.tolerance


def export_config(given: Mapping[str, Any]) -> ExportConfig:
    """The config from what the user gave; the rest as the weights were trained, see `classifier_config`.

    Raises:
      ConfigError: see `ExportConfig`; or there are no `images`.
    """
    settings = dict(given)
    if given.get('images'):
        settings['images'] = os.path.expanduser(given['images'])
        if '://' not in settings['images'] and not os.path.exists(settings['images']):
            raise ConfigError(f'--images={given["images"]}: there is no such folder or image.')
    return classifier_config(ExportConfig, settings)
