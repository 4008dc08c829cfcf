import json
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from datasets import DatasetError, checking, framing
from datasets.__main__ import main

NAME = 'flowers_train_00001-of-00003.tfrecord'


def verify(*args, **kwargs):
    return checking.verify(*map(str, args), **kwargs)


def offsets(path):
    """Where TensorFlow's own reader says that records begin, and the end."""
    sizes = [len(record.numpy()) + 16 for record in tf.data.TFRecordDataset(str(path))]
    return np.cumsum([0, *sizes]).tolist()


def features(**values):
    """An Example of these features; a double underscore stands for a slash."""
    kinds = {bytes: ('bytes_list', tf.train.BytesList), int: ('int64_list', tf.train.Int64List),
             float: ('float_list', tf.train.FloatList)}
    feature = {}
    for name, value in values.items():
        value = value if isinstance(value, list) else [value]
        kind, make = kinds[type(value[0])]
        feature[name.replace('__', '/')] = tf.train.Feature(**{kind: make(value=value)})
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture
def write(tmp_path):
    def writing(*records, name='some.tfrecord'):
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for record in records:
                writer.write(record)
        return tmp_path
    return writing


@pytest.mark.parametrize('data, crc', [  # RFC 3720, B.4, and the check value of the catalogue of CRCs
    (bytes(32), 0x8A9136AA), (b'\xff' * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b'123456789', 0xE3069283)])
def test_crc32c_of_the_standard(data, crc):
    assert framing.crc32c(data) == crc


def test_checksums_are_tensorflows(write):
    contents = [np.random.default_rng(n).bytes(n) for n in (0, 1, 3, 4, 255, 256, 257, 259, 511, 513, 4096, 100_003)]
    folder = write(*contents)
    assert [(r.data, r.fault) for r in framing.walk(str(folder / 'some.tfrecord'))] == [(c, None) for c in contents]
    assert [r.offset for r in framing.walk(str(folder / 'some.tfrecord'))] == offsets(folder / 'some.tfrecord')[:-1]


def test_a_sound_dataset(flowers):
    pathlib.Path(flowers, 'labels.txt').write_text(''.join(f'{i}:bloem {i}\n' for i in range(6)))
    report = verify(flowers)
    assert report.fault_count == report.bad_records == 0 and report.faults == []
    assert (report.files, report.records, dict(report.formats)) == (3, 20, {'png': 20})
    assert report.bytes == sum(file.stat().st_size for file in pathlib.Path(flowers).glob('*.tfrecord'))
    assert dict(report.labels) == {0: 4, 1: 4, 2: 4, 3: 4, 4: 4}
    assert report.smallest == report.largest == (10, 12)
    assert 'bloem 4 4' in str(report) and 'without  any image: bloem 5' in str(report)


def test_data_checksum_and_on(flowers):
    path = os.path.join(flowers, NAME)
    begin = offsets(path)
    content = bytearray(open(path, 'rb').read())
    content[begin[1] + 40] ^= 1
    content[begin[3] - 1] ^= 1     # of record 2: its last checksum itself
    open(path, 'wb').write(content)
    report = verify(flowers)
    assert [(f.source, f.record, f.offset) for f in report.faults] == [(path, 1, begin[1]), (path, 2, begin[2])]
    assert all('checksum of its data is wrong' in f.what for f in report.faults)
    assert (report.records, report.bad_records, sum(report.labels.values())) == (20, 2, 18)


@pytest.mark.parametrize('at', [0, 7, 8, 11])
def test_length_checksum_loses_the_rest(flowers, at):
    path = os.path.join(flowers, NAME)
    begin = offsets(path)
    content = bytearray(open(path, 'rb').read())
    content[begin[2] + at] ^= 128
    open(path, 'wb').write(content)
    fault, = verify(flowers).faults
    assert (fault.record, fault.offset) == (2, begin[2])
    assert 'checksum of its length is wrong' in str(fault) and f'{begin[-1] - begin[2]:,} bytes, is lost' in str(fault)
    assert f'{NAME} record 2 at byte {begin[2]}: ' in str(fault)


@pytest.mark.parametrize('keep, words', [(5, 'within its header'), (40, 'cut short: it would end at byte'),
                                         (-1, 'cut short: it would end at byte')])
def test_cut_short(flowers, keep, words):
    path = os.path.join(flowers, NAME)
    begin = offsets(path)
    end = begin[3] + keep if keep > 0 else begin[4] - 1
    os.truncate(path, end)
    report = verify(flowers)
    fault, = report.faults
    assert fault.record == 3 and words in fault.what and f'{end - begin[3]:,} bytes, is lost' in fault.what
    assert (report.records, report.bad_records) == (20, 1)


def test_a_huge_length_with_a_right_checksum(write, encode):
    header = struct.pack('<Q', 2**40)
    folder = write(features(image__encoded=encode(), image__class__label=0))
    with open(folder / 'some.tfrecord', 'ab') as file:
        file.write(header + struct.pack('<I', framing.masked_crc32c(header)))
    fault, = verify(folder).faults
    assert fault.record == 1 and 'would end at byte 1,099,511,' in fault.what


def test_what_is_wrong_with_a_record(write, encode):
    image = encode(3, 'jpg')
    good = {'image__encoded': image, 'image__class__label': 1, 'image__format': b'jpg', 'image__height': 10,
            'image__width': 12}
    box = {f'image__object__bbox__{side}': [0.1, 0.5] for side in ('ymin', 'xmin')} | {
        f'image__object__bbox__{side}': [0.5, 1.0] for side in ('ymax', 'xmax')}
    cases = [
        (features(**good), None),
        (features(**good, **box), None),
        (features(**good | {'image__format': b'JPEG'}), None),
        (b'no protocol buffer', 'holds no Example'),
        (b'', 'holds no Example'),
        (features(image__encoded=image), 'image/class/label is missing; there is image/encoded'),
        (features(image__class__label=1), 'image/encoded is missing'),
        (features(**good | {'image__class__label': [1, 2]}), 'image/class/label should be 1 value of int64_list, but '
                                                             'is 2 of int64_list'),
        (features(**good | {'image__class__label': b'1'}), 'but is 1 of bytes_list'),
        (features(**good | {'image__class__label': 3}), 'label 3 is not in labels.txt, which has 0, 1, 2'),
        (features(**good | {'image__class__label': -1}), 'label -1 is not in labels.txt'),
        (features(**good | {'image__encoded': b''}), 'image has no bytes'),
        (features(**good | {'image__encoded': b'text'}), '4 bytes are no image'),
        (features(**good | {'image__encoded': image[:-40]}), 'cannot be decoded'),
        (features(**good | {'image__height': 12, 'image__width': 10}), 'states image/height 12, but its image is 10 '
                                                                       'high and 12 wide'),
        (features(**good | {'image__width': 13}), 'states image/width 13'),
        (features(**good | {'image__format': b'png'}), 'states image/format png, but its image is jpeg'),
        (features(**good | {'image__encoded': encode(3, 'png')}), 'states image/format jpg, but its image is png'),
        (features(**good, **box | {'image__object__bbox__xmax': [1.0]}), 'boxes have 2 ymin, 2 xmin, 2 ymax, 1 xmax'),
        (features(**good, **box | {'image__object__bbox__xmax': [0.05, 1.0]}), '0.1, 0.1, 0.5, 0.05 is no part'),
    ]
    folder = write(*[record for record, _ in cases])
    (folder / 'labels.txt').write_text('0:a\n1:b\n2:c\n')
    report = verify(folder)
    found = {fault.record: fault for fault in report.faults}
    assert [number in found for number in range(len(cases))] == [bool(words) for _, words in cases]
    for number, (_, words) in enumerate(cases):
        assert not words or words in found[number].what, str(found[number])
    assert report.boxes == 2 and dict(report.labels) == {1: 3}
    assert [f.offset for f in report.faults] == [offsets(folder / 'some.tfrecord')[f.record] for f in report.faults]


def test_labels_of_the_named_dataset(records, encode):
    folder = records('mnist_train.tfrecord', [(encode(0, mode='L'), 10)])
    assert verify(folder).fault_count == 0
    fault, = verify(folder, 'mnist').faults
    assert 'label 10 is out of range: labels are from 0 to 9' in fault.what
    fault, = verify(records('mnist_train.tfrecord', [(encode(0, 'bmp'), 1)]), 'mnist', 'train').faults
    assert 'cannot be decoded' in fault.what    # a BMP in colours is none of grey


def test_several_labels(write, encode):
    folder = write(*(features(image__encoded=encode(), image__class__label=labels) for labels in (0, [0, 2], [1, -1])),
                   features(image__encoded=encode()))
    faults = verify(folder).faults
    assert [fault.record for fault in faults] == [1, 2, 3]
    assert [str(fault).endswith('is 2 of int64_list (several labels: --multi_label).') for fault in faults] == [
        True, True, False]
    report = verify(folder, multi_label=True)
    assert [fault.record for fault in report.faults] == [2] and dict(report.labels) == {0: 2, 2: 1}


def test_a_missing_shard(flowers):
    os.remove(os.path.join(flowers, NAME))
    fault, = verify(flowers).faults
    assert fault.source == os.path.join(flowers, NAME) and 'missing, of the 3' in fault.what
    assert verify(os.path.join(flowers, 'flowers_train_00002-of-00003.tfrecord')).fault_count == 0


def test_which_files(flowers, tmp_path, encode):
    for name in ('notes.txt', 'labels.txt.orig', 'empty', '.hidden.tfrecord', 'picture.png'):
        (tmp_path / name).write_bytes(b'0:daisy\n' if name != 'empty' else b'')
    (tmp_path / 'folder.tfrecord').mkdir()
    assert (verify(flowers).files, verify(flowers).fault_count) == (3, 0)
    os.rename(os.path.join(flowers, NAME), tmp_path / 'Blüten 7')
    assert verify(flowers, file_pattern='Bl*').records == 4
    assert verify(flowers, file_pattern='flowers_%s_*', split='train').records == 16
    assert verify(flowers, 'tfrecord', 'train').records == 16
    os.rename(os.path.join(flowers, 'flowers_train_00000-of-00003.tfrecord'), tmp_path / 'a [1]%s.rec')
    assert verify(tmp_path / 'a [1]%s.rec').records == 7
    os.rename(tmp_path / 'a [1]%s.rec', os.path.join(flowers, 'flowers_train_00000-of-00003.tfrecord'))
    assert verify(flowers).records == 20    # by what is in it
    with pytest.raises(DatasetError, match='no file of flowers in .* matches flowers_validation_'):
        verify(flowers, 'flowers', 'validation')
    (tmp_path / 'no records').mkdir()
    with pytest.raises(DatasetError, match='no file of tfrecord in .* is a TFRecord file; the folder is empty'):
        verify(tmp_path / 'no records', 'tfrecord')
    with pytest.raises(DatasetError, match='no file of mnist in .* with any of the splits train, test; there is'):
        verify(flowers, 'mnist')


def test_a_file(flowers, monkeypatch):
    pathlib.Path(flowers, 'README.md').write_text('# Flowers, of five kinds\n')
    with pytest.raises(DatasetError, match=r'README\.md is neither a TFRecord file, .* nor a list of images \(\.csv, '):
        verify(os.path.join(flowers, 'README.md'))
    monkeypatch.chdir(flowers)
    assert verify(NAME).records == 4


def test_class_folders(tree, tmp_path):
    folder = tree('a b/1.png', 'a b/2.jpg', 'ü/3.gif', 'ü/4.bmp', 'ü/5.png')
    report = verify(folder)
    assert (report.files, report.records, report.fault_count) == (5, 5, 0) and report.names == {0: 'a b', 1: 'ü'}
    assert dict(report.labels) == {0: 2, 1: 3} and dict(report.formats) == {'png': 2, 'jpeg': 1, 'gif': 1, 'bmp': 1}
    (tmp_path / 'ü' / '5.png').write_bytes(b'')
    (tmp_path / 'a b' / '2.jpg').write_bytes((tmp_path / 'a b' / '2.jpg').read_bytes()[:-30])
    os.symlink('nowhere', tmp_path / 'ü' / '6.png')
    report = verify(folder)
    assert (report.records, report.bad_records) == (6, 3)
    found = {os.path.relpath(fault.source, folder): fault.what for fault in report.faults}
    assert 'no bytes' in found['ü/5.png'] and 'cannot be decoded' in found['a b/2.jpg']
    assert 'cannot be read' in found['ü/6.png']


def test_class_folders_by_split(tree):
    folder = tree('train/a/1.png', 'train/b/2.png', 'test/a/3.png', 'test/b/4.png')
    assert verify(folder).records == 4 and verify(folder, 'image_folder', 'test').records == 2


def test_lists(tree, tmp_path):
    tree('a/1.png', 'b/2.jpg', 'b/3.png')
    (tmp_path / 'list.csv').write_text('path,label\na/1.png,cat\nb/2.jpg,dog\nb/3.png,dog\nb/4.png,cat\n')
    report = verify(tmp_path / 'list.csv')
    assert (report.records, report.bad_records) == (4, 1) and dict(report.labels) == {0: 1, 1: 2}
    assert report.faults[0].source.endswith('4.png') and report.names == {0: 'cat', 1: 'dog'}
    (tmp_path / 'lists').mkdir()
    for split, line in (('train', '../a/1.png,cat|dog'), ('test', '../b/2.jpg,dog')):
        (tmp_path / 'lists' / f'{split}.csv').write_text(f'path,labels\n{line}\n')
    assert dict(verify(tmp_path / 'lists').labels) == {0: 1, 1: 2}


def test_names_of_the_dataset(flowers):
    assert verify(flowers, 'flowers').as_json()['labels'][3]['name'] == 'sunflowers'


def test_the_embedded_digits():
    report = verify('', 'digits')
    assert (report.records, report.fault_count, sum(report.labels.values())) == (1797, 0, 1797)     # UCI's number


def test_faults_are_counted_beyond_those_kept(write, monkeypatch):
    monkeypatch.setattr(checking, 'KEPT', 3)
    for name in ('one.tfrecord', 'two.tfrecord'):
        folder = write(*[b'junk'] * 2, name=name)
    report = verify(folder)
    assert len(report.faults) == 3 and report.fault_count == report.bad_records == 4


def test_remote_folders(encode):
    with tf.io.TFRecordWriter('ram://verify/x.tfrecord') as writer:
        writer.write(features(image__encoded=encode(), image__class__label=0))
        writer.write(b'junk')
    report = verify('ram://verify')
    assert (report.records, report.bad_records) == (2, 1) and report.faults[0].source == 'ram://verify/x.tfrecord'


def test_command(flowers, tmp_path, capsys):
    file = tmp_path / 'report ü.json'
    assert main(['verify', flowers, '--json', str(file), '--num_threads=2']) == 0
    assert json.loads(file.read_text()) == {
        'sound': True, 'files': 3, 'records': 20, 'bad_records': 0, 'formats': {'png': 20}, 'smallest': [10, 12],
        'largest': [10, 12], 'boxes': 0, 'fault_count': 0, 'faults': [], 'bytes': verify(flowers).bytes,
        'labels': [{'label': label, 'name': None, 'count': 4} for label in range(5)]}
    assert 'records  20 in 3 files' in capsys.readouterr().out
    os.truncate(os.path.join(flowers, NAME), 30)
    assert main(['verify', flowers, '--json', str(file)]) == 1
    assert f'{NAME} record 0 at byte 0: it is cut short' in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert not written['sound'] and written['faults'][0]['record'] == written['faults'][0]['offset'] == 0
    assert main(['verify', os.path.join(flowers, 'nowhere')]) == 1
    assert 'there is no folder' in capsys.readouterr().err
    assert main(['verify', flowers, '--json', os.path.join(flowers, 'no', 'folder.json')]) == 1
    assert 'cannot be written' in capsys.readouterr().err
    assert not list(tmp_path.glob('*.tmp'))
    with pytest.raises(SystemExit) as stopped:
        main(['verify', flowers, '--num_threads=0'])
    assert stopped.value.code == 2


def test_progress(flowers, monkeypatch, capsys):
    monkeypatch.setattr('datasets.__main__.SECONDS', 0)
    main(['verify', flowers, '--num_threads=1'])
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == 'verify 20 records, 100 %' and 'verify 7 records, 3' in lines[7]


def test_as_a_program(flowers):
    done = subprocess.run([sys.executable, '-m', 'datasets', 'verify', flowers], capture_output=True, text=True,
                          cwd=pathlib.Path(__file__).parents[2])
    assert done.returncode == 0 and done.stderr == '' and 'all of it can be used' in done.stdout
