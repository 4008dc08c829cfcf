"""Damaged JPEGs and TFRecords: each gives an image or a clear error, and none a crash, a hang or a full memory.

What is risky runs in a process of its own, this file as a program, with a limit on time and memory.
"""
import io
import json
import os
import pathlib
import random
import resource
import struct
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).parents[2]
COUNT = 1000
SECONDS = 300               # it takes 20 on two cores that others use too
ADDRESSES = 2**36
# Bytes: the largest image that TensorFlow decodes has 0.5 GiB, and libjpeg needs twice that; verify decodes on all
# cores.
GROWTH = (0.5 + 1.5 * (os.cpu_count() or 1)) * 2**30


def jpegs():
    """Sound JPEGs of all kinds: baseline, progressive, grey, CMYK, without subsampling, with restart markers, EXIF."""
    import numpy as np
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    for size, mode, options in (((64, 48), 'RGB', {}), ((37, 53), 'RGB', {'progressive': True}), ((40, 40), 'L', {}),
                                ((48, 32), 'CMYK', {}), ((120, 90), 'RGB', {'subsampling': 0, 'optimize': True}),
                                ((16, 16), 'RGB', {'restart_marker_blocks': 1}), ((33, 20), 'RGB', {'exif': exif})):
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize(size).convert(mode).save(buffer, 'JPEG', **options)
        yield buffer.getvalue()


def damaged(data, draw):
    """Bytes with one to four faults."""
    data = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        length = min(draw.randint(1, 64), len(data) - at)
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = draw.randbytes(length)
        elif kind == 3:
            data[at:at] = data[at:at + length] * draw.randint(1, 50)
        elif kind == 4:
            data[at:at + length] = draw.choice((bytes(length), b'\xff' * length, b''))
        elif kind == 5 and data:
            data[draw.randrange(min(len(data), 200))] = draw.randrange(256)
        else:
            data[at:at + 2] = struct.pack('>H', draw.choice((0, 1, 0xffff, 0xffd9, 0xffda, 0xffc0, 0xffc2, 0xffc4)))
    return bytes(data)


def with_size(jpeg, height, width):
    """A JPEG whose header says that it has another size."""
    at = 2
    while not 0xc0 <= jpeg[at + 1] <= 0xc2:
        at += 2 + struct.unpack('>H', jpeg[at + 2:at + 4])[0]
    return jpeg[:at + 5] + struct.pack('>HH', height, width) + jpeg[at + 9:]


def fuzzed_jpegs():
    draw, sound = random.Random(1), list(jpegs())
    sizes = [0, 1, 7, 8, 9, 100, 2700, 23170, 65500, 65535]
    lies = [with_size(jpeg, draw.choice(sizes), draw.choice(sizes)) for jpeg in sound for _ in range(12)]
    return lies + [damaged(sound[number % len(sound)], draw) for number in range(COUNT - len(lies))]


def fuzzed_files(sound, framing):
    """TFRecord files: of the records `sound`, damaged as they are, and damaged inside and framed again."""
    draw = random.Random(2)

    def framed(record, length=None):
        header = struct.pack('<Q', len(record) if length is None else length)
        return (header + struct.pack('<I', framing.masked_crc32c(header)) + record
                + struct.pack('<I', framing.masked_crc32c(record)))

    whole = b''.join(map(framed, sound))
    for number in range(COUNT):
        chosen = draw.randrange(len(sound))
        if number % 3 == 0:
            yield damaged(whole, draw)
        elif number % 3 == 1:
            yield b''.join(framed(damaged(record, draw) if place == chosen else record)
                           for place, record in enumerate(sound))
        else:
            length = draw.choice((0, 1, len(sound[chosen]) - 1, len(sound[chosen]) + 1, 2**31, 2**32 - 1, 2**40,
                                  2**63 - 1, 2**63, 2**64 - 17, 2**64 - 1, draw.randrange(2**64), draw.randrange(3000)))
            yield b''.join(framed(record, length if place == chosen else None) for place, record in enumerate(sound))


def main(kind, folder):
    """Prints what became of each of the thousand; a crash is this process's."""
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
    import tensorflow as tf

    tf.io.decode_image(next(jpegs()))
    # Addresses are no measure, since threads take many and use few; but what takes all of these has no bounds.
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {'jpegs': fuzz_jpegs, 'records': fuzz_records}[kind](folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH, f'the memory grew by {grown / 2**30:.2f} GiB'
    print(json.dumps(found))


def fuzz_jpegs(folder):
    import tensorflow as tf

    from datasets import checking, decode_image, pipeline
    from datasets.dataset_factory import get_dataset
    from datasets.dataset_utils import image_to_tfexample
    from datasets.registry import DatasetRow

    images = fuzzed_jpegs()
    decoded, checked, found = [], [], {}
    with tf.io.TFRecordWriter(os.path.join(folder, 'x_train_0.tfrecord')) as writer:
        for number, image in enumerate(images):
            writer.write(image_to_tfexample(image, b'jpeg', 1, 1, number).SerializeToString())
            try:
                decoded.append(decode_image(image).shape.as_list())
            except tf.errors.InvalidArgumentError:
                decoded.append(None)
    for start in range(0, COUNT, 10):
        for image in checking.check_images(images[start:start + 10]):
            assert str(image).count('\n') == 0
            checked.append(None if isinstance(image, checking.Unusable) else [image.height, image.width])

    def window(shape, seed):
        return tf.stack([shape[0] // 3, shape[1] // 4, (shape[0] + 1) // 2, (shape[1] + 1) // 2])

    def preprocess(image, seed):
        return tf.shape(image)

    row = DatasetRow('x', {'train': COUNT}, COUNT, 'x_%s_*', 'none')
    dataset = get_dataset(row, 'train', folder)
    skipped = []
    for name, options in (('whole', {}), ('part', {'window': window}), ('small', {'window': window, 'window_side': 4}),
                          ('skipping', {'skip_corrupt': skipped.append})):
        batches = pipeline.make_batches(dataset, preprocess, 1, training=False, num_threads=1, **options)
        batches = batches if 'skip_corrupt' in options else batches.ignore_errors()
        found[name] = {int(label[0]): image[0].tolist() for image, label in batches.as_numpy_iterator()}
    return {'decoded': decoded, 'checked': checked, **found, 'skipped': skipped, 'fault': dataset.find_fault()}


def fuzz_records(folder):
    import tensorflow as tf

    from datasets import DatasetError, checking, decode_image, framing, pipeline
    from datasets.dataset_factory import get_dataset
    from datasets.dataset_utils import image_to_tfexample
    from datasets.provider import READ_ERRORS
    from datasets.registry import DatasetRow
    from datasets.tfrecords import count_records

    sound = [image_to_tfexample(image, b'jpeg', *decode_image(image).shape[:2], number).SerializeToString()
             for number, image in zip(range(4), jpegs(), strict=False)]
    row, path = DatasetRow('x', {'train': 4}, 4, 'x_%s.tfrecord', 'none'), os.path.join(folder, 'x_train.tfrecord')
    results = []
    for number, content in enumerate(fuzzed_files(sound, framing)):
        pathlib.Path(path).write_bytes(content)
        report = checking.verify_file(path, checking.Expected(None, 4), threading.Event(),
                                      lambda records, size: None)
        first = next((record.number for record in framing.walk(path) if record.fault), report.records)
        result = {'records': report.records, 'first': first, 'faults': list(map(str, report.faults))}
        try:
            result['counted'] = count_records(path)
            result['by_tensorflow'] = 0
            for _ in tf.data.TFRecordDataset(path):
                result['by_tensorflow'] += 1
        except DatasetError as error:
            result['refused'] = str(error)
        except tf.errors.OpError as error:
            result['data_loss'] = type(error).__name__
        try:
            dataset = get_dataset(row, 'train', folder)
            found = dataset.find_fault()
            # What TensorFlow answers now so and now so (seen once in a score of runs) can agree with nothing.
            result['found'] = found if found == dataset.find_fault() else None
            if number % 20 == 0:
                batches = pipeline.make_batches(dataset, lambda image, seed: tf.shape(image), 1, training=False)
                result['read'] = sum(1 for _ in batches)
        except DatasetError as error:
            result['refused'] = str(error)
        except READ_ERRORS:
            result['unread'] = True
        results.append(result)
    return results


def run(kind, folder):
    done = subprocess.run([sys.executable, __file__, kind, str(folder)], capture_output=True, text=True, cwd=ROOT,
                          timeout=SECONDS, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, f'exit code {done.returncode}: {done.stderr[-3000:]}'
    return json.loads(done.stdout.splitlines()[-1])


def test_jpegs(tmp_path):
    found = run('jpegs', tmp_path)
    decoded, checked = found['decoded'], found['checked']
    shapes = {number: shape for number, shape in enumerate(decoded) if shape}
    assert len(decoded) == COUNT and 200 < len(shapes) < 800
    assert checked == [shape and shape[:2] for shape in decoded]
    assert keyed(found['whole']) == keyed(found['skipping']) == shapes
    unusable = sorted(set(range(COUNT)) - set(shapes))
    assert found['skipped'] == [f'x_train_0.tfrecord record {number}' for number in unusable]
    assert f'record {unusable[0]} cannot be decoded' in found['fault']
    for name in ('part', 'small'):      # whatever can be decoded, a part of it can, and some more where that is sound
        assert set(shapes) <= set(keyed(found[name]))
    parts = keyed(found['part'])
    assert all(parts[number] == [(height + 1) // 2, (width + 1) // 2, 3]
               for number, (height, width, _) in shapes.items())


def keyed(found):
    return {int(number): shape for number, shape in found.items()}


def test_records(tmp_path):
    results = run('records', tmp_path)
    assert len(results) == COUNT
    for result in results:
        assert all(fault.count('\n') == 0 for fault in result['faults'])
        if 'refused' in result:
            assert result['faults'] and result['refused'].count('\n') == 0
        if 'counted' in result:     # TensorFlow's reader gives what is before the first fault, and no more
            assert result['counted'] == result['records'] and result['by_tensorflow'] == result['first']
            assert ('data_loss' in result) == (result['first'] < result['records'])
        if result.get('found'):
            assert result['faults'] and result['found'].count('\n') == 0, result
        assert 'unread' not in result or result['found']     # what cannot be read is explained
        assert result.get('read', result['records']) == result['records']
    refused, damaged_inside, lost, sound = (sum(map(bool, kind)) for kind in (
        ['refused' in result for result in results],
        [result.get('found') and 'data_loss' not in result for result in results],
        ['data_loss' in result for result in results], [not result['faults'] for result in results]))
    assert min(refused, damaged_inside, lost, sound) > 30, (refused, damaged_inside, lost, sound)
    assert {'read', 'unread'} <= set().union(*results)


if __name__ == '__main__':
    main(*sys.argv[1:])
