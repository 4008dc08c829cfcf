"""JPEGs of 500x375 for `throughput.py --mode=input`, as costly to decode as those of ImageNet.

    python benchmarks/photos.py FOLDER [PHOTOS]

They are parts of the JPEGs in the folder PHOTOS, shrunk. Without it they are made: discs that cover one another give
the edges of real photos, noise whose amplitude falls with the frequency the rest.
"""
import pathlib
import sys

COUNT, HEIGHT, WIDTH = 128, 375, 500


def make(folder: str) -> None:
    """Writes COUNT JPEGs into two class folders below `folder`."""
    import numpy as np
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, np.newaxis, np.newaxis], np.fft.rfftfreq(WIDTH)[:, np.newaxis])
    amplitude = 1 / np.maximum(frequency, 1 / WIDTH)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    for number in range(COUNT):
        random = np.random.RandomState(number)
        image = np.zeros([HEIGHT, WIDTH, 3])
        for _ in range(60):
            y, x, radius = random.randint(HEIGHT), random.randint(WIDTH), 8 / random.uniform(0.05, 1)
            image[(rows - y) ** 2 + (columns - x) ** 2 < radius ** 2] = random.uniform(0, 255, 3)
        phases = np.exp(2j * np.pi * random.uniform(size=[*frequency.shape[:2], 1]))
        noise = np.fft.irfft2(amplitude * phases, (HEIGHT, WIDTH), axes=(0, 1))
        write(folder, number, np.uint8(np.clip(image + 25 * noise / noise.std(), 0, 255)), quality=92)


def cut(folder: str, photos: str) -> None:
    """Writes COUNT JPEGs into two class folders below `folder`: parts of the JPEGs in `photos`, in the aspect 4:3."""
    import numpy as np
    import tensorflow as tf
    files = sorted(path for path in pathlib.Path(photos).iterdir() if path.suffix.lower() in ('.jpg', '.jpeg'))
    if not files:
        sys.exit(f'{photos} holds no JPEG.')
    for number in range(COUNT):
        random = np.random.RandomState(number)
        image = tf.io.decode_jpeg(files[number % len(files)].read_bytes(), 3).numpy()
        whole = min(image.shape[0] / HEIGHT, image.shape[1] / WIDTH)
        scale = random.uniform(min(1, whole), whole)
        height, width = int(HEIGHT * scale), int(WIDTH * scale)
        top, left = random.randint(image.shape[0] - height + 1), random.randint(image.shape[1] - width + 1)
        part = tf.image.resize(image[top:top + height, left:left + width], [HEIGHT, WIDTH], antialias=True)
        write(folder, number, np.uint8(np.clip(np.rint(part), 0, 255)), quality=95)


def write(folder: str, number: int, image, quality: int) -> None:
    """Writes a JPEG into one of two class folders."""
    import tensorflow as tf
    path = pathlib.Path(folder, 'ab'[number % 2], f'{number:03}.jpg')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_jpeg(image, quality=quality).numpy())


if __name__ == '__main__':
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    (cut if len(sys.argv) > 2 else make)(*sys.argv[1:])
