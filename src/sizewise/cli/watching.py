"""What looks on while a model is trained, for other tools: event files and tracking servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sizewise.errors import MissingExtraError, SizewiseError

if TYPE_CHECKING:
    from sizewise.training import Watcher


class TensorBoardWatcher:
    """Writes event files for TensorBoard.

    Args:
        folder: where to.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboardX", "tensorboard") from error
        self._writer = SummaryWriter(str(folder))

    def __call__(self, progress: Any) -> None:
        """Write the values of a step."""
        values = _values(progress)
        if progress.bits_per_byte is not None:
            self._writer.flush()
        for name, value in values.items():
            self._writer.add_scalar(name, value, progress.step)


class MlflowWatcher:
    """Logs to an MLflow server or database.

    Args:
        uri: tracking URI.
        name: name of the run.

    Raises:
        MissingExtraError: mlflow is not installed.
        SizewiseError: it cannot log there.
    """

    def __init__(self, uri: str, name: str) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError("mlflow", "mlflow") from error
        self._mlflow = mlflow
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.start_run(run_name=name)
        except Exception as error:  # each of its stores has exceptions of its own
            reason = str(error).splitlines()[0]
            raise SizewiseError(
                f"MLflow cannot log to {uri}: {reason}", "a server or a database", "--mlflow sqlite:///mlflow.db"
            ) from error

    def __call__(self, progress: Any) -> None:
        """Log the values of a step."""
        self._mlflow.log_metrics(_values(progress), step=progress.step)


def _values(progress: Any) -> dict[str, float]:
    """Give what is logged of a step."""
    values = {"loss": progress.loss, "learning_rate": progress.learning_rate, "tokens": progress.tokens}
    if progress.bits_per_byte is not None:
        values["validation/bits_per_byte"] = progress.bits_per_byte
        control = progress.points[-1].control_bits_per_byte
        if control is not None:
            values["validation/control_bits_per_byte"] = control
    return values


def together(watchers: list[Watcher]) -> Watcher:
    """Let several look on."""

    def watch(progress: Any) -> None:
        for watcher in watchers:
            watcher(progress)

    return watch
