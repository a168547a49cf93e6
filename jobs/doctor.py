"""Check that this machine can run the jobs: Python, Java, memory, disk, packages, Delta, Petastorm, Horovod, MLflow."""

import sys

from behavior_lib.doctor.main import main

if __name__ == "__main__":
    code = main()
    if code:
        sys.exit(code)
