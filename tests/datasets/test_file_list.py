import csv
import itertools
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from datasets import DatasetError
from datasets.dataset_factory import get_dataset


def opened(path, split='train', **options):
    return get_dataset('file_list', split, str(path), **options)


def elements(dataset):
    return list(dataset.as_tf_data().as_numpy_iterator())


@pytest.fixture
def listed(tree, tmp_path):
    """Writes a list beside six photos, and returns its path."""
    tree(*(f'{i}.png' for i in range(5)), 'müll, "alt"/5.png')

    def write(content, name='photos.csv'):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
    return write


def test_csv_as_pythons_reader_has_it(listed, grey, tmp_path):
    """Quoted commas and quotes, lines that end as on Windows, a mark before them, columns that mean nothing to us."""
    text = ('\ufeffWidth,Path,Label\r\n3,1.png,"cat, or dog"\r\n,"müll, ""alt""/5.png",ühu\r\n\r\n'
            f'4,{tmp_path / "0.png"},ühu\r\n')
    path = listed(text)
    dataset = opened(path, validation_fraction=0)
    with open(path, newline='', encoding='utf-8-sig') as file:
        theirs = list(csv.DictReader(file))
    assert [dataset.labels_to_names[label] for label in dataset.labels] == [row['Label'] for row in theirs]
    assert dataset.files == [str(tmp_path / row['Path']) for row in theirs]
    assert [(grey(e), e['label']) for e in elements(dataset)] == [(1, 0), (5, 1), (0, 1)]
    assert dataset.labels_to_names == {0: 'cat, or dog', 1: 'ühu'} and dataset.find_fault() is None


@pytest.mark.parametrize('path, label', itertools.product(['path', 'filename', 'FILE', 'image'], ['label', 'Class']))
def test_names_of_columns(listed, path, label):
    assert opened(listed(f'{label},{path}\na,1.png\nb,2.png\n'), validation_fraction=0).labels == [0, 1]


def test_tabs_and_json_lines_say_the_same(listed, tmp_path):
    tabs = opened(listed('path\tlabel\n1.png\tb,c\n2.png\ta\n', 'x.tsv'), validation_fraction=0)
    rows = [{'path': '1.png', 'label': 'b,c'}, {'label': 'a', 'path': '2.png', 'more': None}]
    lines = '\r\n'.join(json.dumps(row, ensure_ascii=False) for row in rows)
    for name in ('x.jsonl', 'y.ndjson'):
        other = opened(listed(lines, name), validation_fraction=0)
        assert other.labels == tabs.labels == [1, 0] and other.files == tabs.files
        assert other.labels_to_names == {0: 'a', 1: 'b,c'}


@pytest.mark.parametrize('name, content', [
    ('x.csv', 'path,labels\n1.png,b|a\n2.png,\n3.png,c | b\n0.png,a|a\n'),
    ('x.jsonl', '{"path": "1.png", "labels": ["b", "a"]}\n{"path": "2.png", "labels": []}\n'
                '{"path": "3.png", "labels": ["c", "b"]}\n{"path": "0.png", "labels": ["a", "a"]}')])
def test_several_labels(listed, grey, name, content):
    dataset = opened(listed(content, name), validation_fraction=0)
    assert dataset.multi_label and dataset.num_classes == 3 and dataset.class_counts() == [2, 2, 1]
    expected = {1: [1, 0], 2: [], 3: [2, 1], 0: [0]}
    for shuffle in (False, True):
        found = {grey(e): e['label'] for e in dataset.as_tf_data(shuffle=shuffle).as_numpy_iterator()}
        assert {number: label.tolist() for number, label in found.items()} == expected
        assert all(label.dtype == np.int64 for label in found.values())
    assert [label for _, _, label in dataset._examples()] == [(1, 0), (), (2, 1), (0,)]
    assert dataset.find_fault() is None
    assert '2.png has the label 0' not in (fault := dataset.find_fault(labels_offset=1)) and '1.png' in fault
    assert dataset.find_fault(labels_offset=1, count=4) is not None


def test_integers_are_the_labels(listed):
    dataset = opened(listed('path,label\n1.png,3\n2.png,0\n'), validation_fraction=0)
    assert dataset.labels == [3, 0] and dataset.num_classes == 4 and dataset.labels_to_names is None
    lines = '{"path": "1.png", "label": 3}\n{"path": "2.png", "label": "0"}'
    assert opened(listed(lines, 'x.jsonl'), validation_fraction=0).labels == [3, 0]
    # But not those that would lose a zero.
    codes = opened(listed('path,label\n1.png,010\n2.png,9\n'), validation_fraction=0)
    assert codes.labels_to_names == {0: '010', 1: '9'}


def test_labels_file_decides(listed, tmp_path):
    path = listed('path,label\n1.png,a\n2.png,2\n3.png,b\n')
    (tmp_path / 'labels.txt').write_text('0:none\n1:b\n2:a\n')
    dataset = opened(path, validation_fraction=0)
    assert dataset.labels == [2, 2, 1] and dataset.labels_to_names == {0: 'none', 1: 'b', 2: 'a'}
    (tmp_path / 'labels.txt').write_text('0:aa\n1:b\n')
    with pytest.raises(DatasetError, match=r"photos\.csv, line 2: 'a' is no class .*labels\.txt \(did you mean 'aa'"):
        opened(path)


def test_split_column(listed, grey):
    path = listed('path,label,split\n1.png,a,train\n2.png,b,test\n3.png,c,train\n')
    train, test = opened(path), opened(path, 'test')
    assert [grey(e) for e in elements(train)] == [1, 3] and [grey(e) for e in elements(test)] == [2]
    assert train.num_classes == test.num_classes == 3 and test.labels == [1]  # the same classes in every split
    with pytest.raises(DatasetError, match="'validation' is no split of .*; there is train, test"):
        opened(path, 'validation')
    with pytest.raises(DatasetError, match='no validation_fraction to choose'):
        opened(path, validation_fraction=0.1)


def test_a_list_for_each_split(listed, grey, tmp_path):
    listed('path,label\n1.png,b\n2.png,c\n', 'train.csv')
    listed('{"path": "3.png", "label": "a"}', 'Validation.JSONL')
    train, validation = opened(tmp_path), opened(tmp_path, 'validation')
    assert [grey(e) for e in elements(train)] == [1, 2] and [grey(e) for e in elements(validation)] == [3]
    assert train.labels == [1, 2] and validation.labels == [0] and train.num_classes == 3
    listed('path,label\n', 'train.tsv')
    with pytest.raises(DatasetError, match=r'two lists of the split train, train\.csv and train\.tsv'):
        opened(tmp_path)


def test_a_fraction_is_held_out(tmp_path):
    """Of each class, and the same as long as the paths are."""
    rows = [f'{name}/{i}.jpg,{name}' for name, count in (('few', 10), ('many', 40), ('one', 1)) for i in range(count)]
    path = tmp_path / 'x.csv'

    def paths(split, rows, **options):
        path.write_text('path,label\n' + '\n'.join(rows))
        return set(opened(path, split, **options).files)

    train, held_out = (paths(split, rows, validation_fraction=0.25) for split in ('train', 'validation'))
    assert not train & held_out and len(train | held_out) == 51
    np.testing.assert_array_equal(np.bincount(opened(path, 'validation', validation_fraction=0.25).labels), [2, 10])
    assert paths('validation', rows[::-1], validation_fraction=0.25) == held_out
    assert len(paths('validation', [*rows, 'many/40.jpg,many'], validation_fraction=0.25) ^ held_out) <= 2
    assert len(paths('validation', rows)) == 5  # a tenth
    # A photo that is named twice is on one side.
    twice = paths('train', rows * 2, validation_fraction=0.25)
    assert twice == train and opened(path, validation_fraction=0.25).num_samples == 2 * len(train)


def test_a_fraction_of_all_images_with_several_labels(tmp_path):
    path = tmp_path / 'x.csv'
    path.write_text('path,labels\n' + '\n'.join(f'{i}.jpg,{"a|b" if i % 2 else ""}' for i in range(20)))
    train, held_out = opened(path), opened(path, 'validation')
    assert (train.num_samples, held_out.num_samples) == (18, 2) and not set(train.files) & set(held_out.files)


def test_a_file_that_is_missing_or_damaged_is_named_with_its_line(listed, tmp_path):
    dataset = opened(listed('path,label\n1.png,a\n2.png,b\nnone.png,b\n'), validation_fraction=0)
    for fault in (dataset.find_fault(), dataset.find_fault(shuffle=True, count=3)):
        assert fault.startswith(f'{tmp_path / "photos.csv"}, line 4: ') and 'none.png' in fault
        assert 'No such file' in fault
    (tmp_path / '2.png').write_bytes(b'<html>')
    fault = dataset.find_fault()
    assert 'photos.csv, line 3' in fault and '2.png' in fault and 'cannot be decoded' in fault


@pytest.mark.parametrize('name, content, words', [
    ('x.csv', 'name,label\na,b\n', ['line 1 has no column path or filename or file or image', 'it has name, label']),
    ('x.csv', 'path\na\n', ['line 1 has no column label or class or labels']),
    ('x.csv', 'path;label\na;b\n', ['line 1 has no column path', 'it has path;label']),
    ('x.csv', 'path,file,label\n', ['line 1 has the columns path and file']),
    ('x.csv', 'path,label,labels\n', ['line 1 has the columns label and labels']),
    ('x.csv', '', ['names no image', 'header']),
    ('x.csv', 'path,label\n', ['names no image']),
    ('x.csv', 'path,label\n1.png,a\n2.png,\n', ['line 3: a label is empty']),
    ('x.csv', 'path,labels\n1.png,a||b\n', ['line 2: a label is empty']),
    ('x.csv', 'path,label\n,a\n', ['line 2: the path is empty']),
    ('x.csv', 'path,label\n1.png,a,b\n', ['line 2 has 3 columns, but the header has 2', 'quotes']),
    ('x.csv', 'path,label\n"a\n\nb",a\n1.png\n', ['line 5 has 1 columns']),
    ('x.csv', 'path,label\n"1.png,a\n', ['line 2', 'unexpected end']),
    ('x.csv', 'path,label,split\n1.png,a,train\n2.png,a,val', ["line 3: 'val' is no split", 'train, validation, test']),
    ('x.csv', 'path,label,split\n1.png,a,\n', ["line 2: '' is no split"]),
    ('x.csv', 'path,label\n1.png,-1\n2.png,3\n', ['line 2: a label is 0 or more, not -1']),
    ('x.csv', 'path,label\n1.png,a\n2.png,a\n', ['has the label a', 'needs two']),
    ('x.csv', 'path,labels\n1.png,\n', ['no image', 'has a label']),
    ('x.csv', 'path,label\n1.png,a\nä.png,b\n'.encode('latin-1'), ['line 3: this is not UTF-8']),
    ('x.jsonl', '{"path": "1.png", "label": "a"}\n{"path": }', ['line 2 is no JSON']),
    ('x.jsonl', '["1.png"]', ['line 1 should be an object']),
    ('x.jsonl', '{"path": "1.png"}', ['line 1 has no key label']),
    ('x.jsonl', '{"path": "1.png", "label": 1.5}', ['line 1: a label is a name or an integer, not 1.5']),
    ('x.jsonl', '{"path": "1.png", "label": true}', ['line 1: a label is a name or an integer, not true']),
    ('x.jsonl', '{"path": "1.png", "labels": {"a": 1}}', ['line 1: labels should be a list']),
    ('x.jsonl', '{"path": 7, "label": "a"}', ['line 1: the path is empty or no string']),
    ('x.jsonl', '{"path": "1", "label": "a"}\n{"path": "2", "labels": ["a"]}', ['line 2: either', 'has label']),
    ('x.jsonl', '{"path": "1", "label": "a"}\n{"path": "2", "label": "b", "split": "test"}', ['line 2: either', 'spl']),
    ('x.txt', 'path,label\n', ['no list of images', '.csv']),
])
def test_malformed(listed, name, content, words):
    path = listed(content, name)
    with pytest.raises(DatasetError) as error:
        opened(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_no_list(tmp_path):
    (tmp_path / 'photos.csv').write_text('')
    for path, words in ((tmp_path, 'photos.csv'), (tmp_path / 'x.csv', 'there is no list'), ('', 'needs dataset_dir')):
        with pytest.raises(DatasetError, match=words):
            opened(path)


def test_elsewhere_than_on_the_disk(encode, grey):
    """As on gs://: the list, its paths, and those of another place."""
    root = f'ram://lists {os.getpid()}'
    for number, path in enumerate([f'{root}/a/1.png', f'{root}/ü 2.png', f'{root}_more/3.png']):
        tf.io.gfile.makedirs(os.path.dirname(path))
        tf.io.gfile.GFile(path, 'wb').write(encode(number))
    with tf.io.gfile.GFile(f'{root}/train.csv', 'w') as file:
        file.write(f'path,label\na/1.png,x\nü 2.png,y\n{root}_more/3.png,y\n')
    dataset = opened(root)
    assert [(grey(e), e['label']) for e in elements(dataset)] == [(0, 0), (1, 1), (2, 1)]
    assert dataset.find_fault() is None
    tf.io.gfile.remove(f'{root}/ü 2.png')
    assert 'train.csv, line 3' in dataset.find_fault() and 'ü 2.png cannot be read: No such' in dataset.find_fault()
