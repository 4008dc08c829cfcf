"""Photos for `throughput.py --mode=input`, made: JPEGs of 500x375 as costly to decode as those of ImageNet.

Discs that cover one another give the edges of real photos, noise whose amplitude falls with the frequency the rest.
"""
import pathlib

COUNT, HEIGHT, WIDTH = 128, 375, 500


def make(folder: str) -> None:
    """Writes COUNT JPEGs into two class folders below `folder`."""
    import numpy as np
    import tensorflow as tf
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
        image = np.uint8(np.clip(image + 25 * noise / noise.std(), 0, 255))
        path = pathlib.Path(folder, 'ab'[number % 2], f'{number:03}.jpg')
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(image, quality=92).numpy())


if __name__ == '__main__':
    import sys
    make(sys.argv[1])
