import io
import json
import pathlib
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError
from datasets.conversion import beam
from datasets.conversion.collection import Collection, ImageOptions, Item
from datasets.conversion.convert import Conversion, convert

LOCAL = ['--runner=BundleBasedDirectRunner']    # the one that starts no other program


def jpeg(value, mode='RGB'):
    buffer = io.BytesIO()
    Image.new('L', (20, 16), value).convert(mode).save(buffer, 'JPEG')
    return buffer.getvalue()


def collection(tmp_path):
    """Images of all kinds: files, bytes, pixels; one CMYK, one cut short, one twice, one missing."""
    files = []
    for number, content in enumerate((jpeg(1), jpeg(2, 'CMYK'), jpeg(3)[:-30], b'', jpeg(1))):
        files.append(tmp_path / f'fïle {number}.jpg')
        files[-1].write_bytes(content)
    train = [Item(file.name, str(file), number % 2, {'image/filename': file.name}) for number, file in
             enumerate([*files, tmp_path / 'nowhere.jpg'])]
    train += [Item(f'{number}.jpg', jpeg(10 + number), number % 2) for number in range(9)]
    pixels = [Item(f'{number}', np.full((4, 4, 1), number, np.uint8), 1) for number in range(3)]
    return Collection('pets', {'train': train, 'test': pixels}, {0: 'cat', 1: 'dög'}, {'train': 4, 'test': 1})


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in pathlib.Path(folder).rglob('*')
            if path.is_file()}


def test_same_files_as_on_one_machine(tmp_path):
    pytest.importorskip('apache_beam')
    made = collection(tmp_path)
    summaries = [convert(Conversion(made, str(tmp_path / 'here'), ImageOptions(max_side=18))),
                 beam.convert_with_beam(Conversion(made, str(tmp_path / 'thére'), ImageOptions(max_side=18)), LOCAL)]
    assert summaries[0] == summaries[1] and summaries[0]['left_out'] == 3
    assert contents(tmp_path / 'here') == contents(tmp_path / 'thére')
    assert sorted(contents(tmp_path / 'thére')) == [
        'labels.txt', 'pets_conversion.json', 'pets_report.csv', 'pets_test_00000-of-00001.tfrecord',
        *(f'pets_train_{shard:05d}-of-00004.tfrecord' for shard in range(4))]
    steps = []
    again = beam.convert_with_beam(Conversion(made, str(tmp_path / 'thére'), ImageOptions(max_side=18)), LOCAL,
                                   steps.append)
    assert again == summaries[1] and steps == []


def test_goes_on_where_the_other_stopped(tmp_path):
    pytest.importorskip('apache_beam')
    made = collection(tmp_path)
    convert(Conversion(made, str(tmp_path / 'here')))
    conversion = Conversion(made, str(tmp_path / 'there'))
    assert conversion.begin()
    conversion.write(made.shards()[2])
    kept = tmp_path / 'there' / made.shards()[2].file_name
    written = kept.stat().st_mtime_ns
    steps = []
    beam.convert_with_beam(Conversion(made, str(tmp_path / 'there')), LOCAL, steps.append)
    assert steps == [4, 14]     # of 15 in 4 files and 3 in one
    assert kept.stat().st_mtime_ns == written
    assert contents(tmp_path / 'here') == contents(tmp_path / 'there')


def test_strict(tmp_path):
    pytest.importorskip('apache_beam')
    made, folder = collection(tmp_path), tmp_path / 'out'
    with pytest.raises(DatasetError, match=r'^--strict: fïle 1.jpg \(train\): CMYK'):
        beam.convert_with_beam(Conversion(made, str(folder), strict=True), LOCAL)
    assert (folder / 'pets_test_00000-of-00001.tfrecord').exists()
    assert not (folder / 'pets_train_00000-of-00004.tfrecord').exists()
    beam.convert_with_beam(Conversion(made, str(folder)), LOCAL)
    convert(Conversion(made, str(tmp_path / 'here')))
    assert contents(folder) == contents(tmp_path / 'here')


def test_a_shard_that_is_written_twice(tmp_path):
    """As engines do that begin the work of a slow machine once more: without Beam, since nothing of it is needed."""
    made = collection(tmp_path)
    convert(Conversion(made, str(tmp_path / 'here')))
    conversion = Conversion(made, str(tmp_path / 'there'))
    conversion.begin()
    folder, shard = conversion.make_folders(), made.shards()[0]
    pathlib.Path(folder, shard.file_name + '.items').write_bytes(pickle.dumps(shard))
    for _ in range(2):
        beam._write(conversion, folder, shard.file_name)
        assert (tmp_path / 'there' / shard.file_name).read_bytes() == (tmp_path / 'here' / shard.file_name).read_bytes()
    assert json.loads(pathlib.Path(folder, f'{shard.file_name}.json').read_text())['num_images'] > 0
    assert not [path for path in pathlib.Path(folder).iterdir() if path.is_dir()]


def test_without_beam(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'apache_beam', None)
    with pytest.raises(DatasetError, match="needs it installed: pip install 'slim-zoo"):
        beam.convert_with_beam(Conversion(collection(tmp_path), str(tmp_path / 'out')))
    assert not (tmp_path / 'out').exists()
