import pytest
import tensorflow as tf

from datasets import DatasetError, dataset_utils


def test_labels_are_read_as_written(tmp_path):
    names = {0: 'daisy', 1: 'a: colon', 2: 'ümlaut'}
    assert not dataset_utils.has_labels(str(tmp_path))
    dataset_utils.write_label_file(names, str(tmp_path))
    assert dataset_utils.has_labels(str(tmp_path))
    assert (tmp_path / 'labels.txt').read_text('utf-8') == '0:daisy\n1:a: colon\n2:ümlaut\n'
    assert dataset_utils.read_label_file(str(tmp_path)) == names


def test_lines_may_end_as_on_windows(tmp_path):
    (tmp_path / 'labels.txt').write_bytes(b'\xef\xbb\xbf0:daisy\r\n\r\n1:rose')
    assert dataset_utils.read_label_file(str(tmp_path)) == {0: 'daisy', 1: 'rose'}


@pytest.mark.parametrize('content, words', [
    (b'0:daisy\nrose\n', "line 2: 'rose'"), (b'0:daisy\nx:rose', "line 2: 'x:rose'"), (b'0:', "line 1: '0:'"),
    (b'0:a\n0:b', 'line 2: the label 0 stands twice'), (b'', 'is empty'), (b'0:\xff\xfe', 'cannot be read as text')])
def test_malformed_labels(tmp_path, content, words):
    (tmp_path / 'labels.txt').write_bytes(content)
    with pytest.raises(DatasetError, match='labels.txt') as error:
        dataset_utils.read_label_file(str(tmp_path))
    assert words in str(error.value)


def test_example_is_tf_slims():
    example = dataset_utils.image_to_tfexample(b'bytes', b'jpg', 20, 30, 4)
    parsed = tf.io.parse_single_example(example.SerializeToString(), {
        'image/encoded': tf.io.FixedLenFeature([], tf.string), 'image/format': tf.io.FixedLenFeature([], tf.string),
        'image/class/label': tf.io.FixedLenFeature([], tf.int64), 'image/height': tf.io.FixedLenFeature([], tf.int64),
        'image/width': tf.io.FixedLenFeature([], tf.int64)})
    assert {key.removeprefix('image/'): value.numpy() for key, value in parsed.items()} == {
        'encoded': b'bytes', 'format': b'jpg', 'class/label': 4, 'height': 20, 'width': 30}
    assert list(dataset_utils.float_feature([1, 2.5]).float_list.value) == [1, 2.5]
    assert list(dataset_utils.int64_feature((1, 2)).int64_list.value) == [1, 2]
