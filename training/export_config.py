"""What an export is told: the flags of `export_image_classifier.py` and of TF-Slim's `export_inference_graph.py`."""
import dataclasses

from nets import registry
from training.settings import GROUPS, Config, ConfigError, flag

_MOST_USED, _RUN, _DATA, _OUTPUT = GROUPS[:4]
_OLD = GROUPS[-1]
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
