"""Records one run in an MLflow store of its own and reads it back."""

import logging
import tempfile
from pathlib import Path


def main() -> None:
    """Create a store in a sqlite file, write one metric, read it back."""
    logging.disable(logging.WARNING)
    import mlflow
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        client = MlflowClient(tracking_uri=f"sqlite:///{Path(folder, 'mlflow.db')}")
        experiment = client.create_experiment("doctor", artifact_location=Path(folder, "artifacts").as_uri())
        run_id = client.create_run(experiment).info.run_id
        client.log_metric(run_id, "answer", 42.0)
        stored = client.get_run(run_id).data.metrics
    if stored != {"answer": 42.0}:
        raise SystemExit(f"the store gave back {stored}")
    print(f"{mlflow.__version__} stored a run in sqlite and read it back")


if __name__ == "__main__":
    main()
