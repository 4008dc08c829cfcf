"""Packaging; the settings of the tools are in pyproject.toml."""
from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ['nets', 'datasets', 'preprocessing', 'training']
SCRIPTS = ['train_image_classifier', 'eval_image_classifier', 'predict_image_classifier', 'extract_endpoints',
           'export_image_classifier', 'export_inference_graph', 'import_weights', 'download_and_convert_data']

setup(
    name='slim-zoo',
    version='0.1.0',
    description="The TF-Slim image-classification zoo on today's TensorFlow: its networks, names, flags, checkpoints",
    long_description=(Path(__file__).parent / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='tensorflow tf-slim image-classification inception googlenet',
    classifiers=[
        'Intended Audience :: Science/Research',
        'Topic :: Scientific/Engineering :: Image Recognition',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(10, 14)),
    ],
    python_requires='>=3.10,<3.14',
    packages=find_packages(include=[pattern for room in ROOMS for pattern in (room, f'{room}.*')]),
    package_data={**{room: ['py.typed'] for room in ROOMS},
                  'datasets': ['py.typed', 'digits.npz', 'imagenet_labels.txt']},
    py_modules=['tf_slim_compat', 'slim_zoo_download', *SCRIPTS],
    install_requires=['tensorflow>=2.16,<2.22', 'keras>=3.5', 'tf-slim>=1.1.0', 'numpy>=1.26', 'absl-py>=2.0',
                      'tqdm>=4.60', 'pillow>=10'],
    extras_require={
        'gpu': ['tensorflow[and-cuda]>=2.16,<2.22'],
        'tensorboard': ['tensorboard>=2.16'],
        'weights': ['safetensors>=0.5'],
        'plot': ['matplotlib>=3.8'],
        'tfds': ['tensorflow-datasets>=4.9.7', 'importlib_resources'],  # which 4.9.10 imports and does not name
        'beam': ['apache-beam>=2.60'],
        'yaml': ['pyyaml>=6'],
        'wandb': ['wandb>=0.16'],
        'litert': ['ai-edge-litert>=2.0'],
        'onnx': ['tf2onnx>=1.17', 'onnx>=1.18', 'onnxruntime>=1.20'],
        'openvino': ['openvino>=2024.0'],
        'test': ['pytest>=8', 'pytest-xdist>=3.5', 'playwright>=1.40', 'scikit-learn>=1.4', 'matplotlib>=3.8',
                 'safetensors>=0.5', 'pyyaml>=6', 'openvino>=2024.0', 'ai-edge-litert>=2.0', 'tf2onnx>=1.17',
                 'onnx>=1.18', 'onnxruntime>=1.20', 'tensorflow-datasets>=4.9.7',
                 'importlib_resources', 'apache-beam>=2.60', 'ruff>=0.9', 'mypy>=1.13', 'setuptools>=77',
                 'twine>=6.1'],
    },
    entry_points={'console_scripts': [f'{script}={script}:main' for script in SCRIPTS]},
)
