"""The verb `report`."""

from fmnist.cli.options import DataDir, Json, RunDirectory, show


def report(run: RunDirectory, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Write a run's report.html from what the run directory holds.

    Example: `fmnist report runs/mine`
    """
    from fmnist.data import load_dataset
    from fmnist.evaluation import report as write_report

    path = write_report(run, load_dataset(data_dir))
    result = {"run": str(run), "report": str(path)}
    show(result, lambda result: print(result["report"]), as_json)
