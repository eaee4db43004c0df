"""A stand-in for the module ray: processes are objects here, and one may be lost at a certain call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(f"ray::Host()\n{type(cause).__name__}: {cause}")
        self.cause = cause


class ObjectLostError(RayError):
    pass


class GetTimeoutError(RayError):
    pass


class Answer:
    """A result that arrives later, or the error that arrives instead."""

    def __init__(self, found: Any) -> None:
        self.found = found


class Handle:
    """A process of the cluster."""

    def __init__(self, ray: FakeRay, made: Any) -> None:
        self._ray, self._made, self.calls = ray, made, 0

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._call(name, arguments))

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Answer:
        self.calls += name != "about"
        self._ray.calls += name != "about"
        if self in self._ray.lost or (name != "about" and self._ray.calls == self._ray.lose_at):
            self._ray.machines -= self._ray.lose_node and self not in self._ray.lost
            self._ray.lost.append(self)
            return Answer(RayActorError("the node is gone"))
        try:
            return Answer(getattr(self._made, name)(*arguments))
        except ImportError as error:
            return Answer(
                RayActorError(
                    f"The actor died because of an error raised in its creation task\nModuleNotFoundError: {error}"
                )
            )
        except Exception as error:
            return Answer(RayTaskError(error))


class FakeRay:
    """A cluster of machines of which one is lost at a certain call."""

    exceptions = SimpleNamespace(
        RayError=RayError,
        RayActorError=RayActorError,
        RayTaskError=RayTaskError,
        ObjectLostError=ObjectLostError,
        GetTimeoutError=GetTimeoutError,
    )
    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft))
    )

    def __init__(self, machines: int = 2, gpus: int = 0, lose_at: int = 0, lose_node: bool = False) -> None:
        self.machines, self.gpus, self.lose_at, self.lose_node = machines, gpus, lose_at, lose_node
        self.calls, self.lost, self.made, self.killed = 0, list[Handle](), list[Handle](), list[Handle]()
        self.asked_for: list[dict[str, Any]] = []

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"CPU": 1.0, "GPU": float(self.gpus)}
        gone = {"NodeID": "gone", "Alive": False, "Resources": resources, "NodeManagerAddress": "10.0.0.9"}
        head = {"NodeID": "head", "Alive": True, "Resources": {"CPU": 0.0}, "NodeManagerAddress": "10.0.0.8"}
        up = [{"NodeID": str(n), "Alive": True, "Resources": resources} for n in range(self.machines)]
        return [node | {"NodeManagerAddress": f"127.0.0.{n + 1}"} for n, node in enumerate(up)] + [gone, head]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "0")

    def remote(self, kind: type) -> Any:
        def options(**settings: Any) -> Any:
            self.asked_for.append(settings)
            return SimpleNamespace(remote=lambda *arguments: self._make(kind, arguments))

        return SimpleNamespace(options=options)

    def _make(self, kind: type, arguments: tuple[Any, ...]) -> Handle:
        self.made.append(Handle(self, kind(*arguments)))
        return self.made[-1]

    def get(self, answer: Any, timeout: float | None = None) -> Any:
        if isinstance(answer, list):
            return [self.get(one) for one in answer]
        if isinstance(answer.found, RayError):
            raise answer.found
        return answer.found

    def wait(self, answers: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return answers[-1:], answers[:-1]  # the last one arrives first

    def kill(self, host: Handle) -> None:
        self.killed.append(host)
