"""Models stay loaded between uses, and close when others need the room or the block ends."""

from __future__ import annotations

from sizewise.models.fake import FakeModel
from sizewise.models.keeping import close_kept, keep_models, open_kept


class Loaded(FakeModel):
    """A model that records its loading and closing."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__("echo")
        self._label, self._log = name, log
        log.append(f"load {name}")

    def close(self) -> None:
        self._log.append(f"close {self._label}")


def test_a_model_is_loaded_once_and_closed_when_the_block_ends() -> None:
    log: list[str] = []
    with keep_models():
        for _ in range(3):
            model = open_kept("a", lambda: Loaded("a", log))
            assert model.ask("x") == "x"
            model.close()
            model.close()
        assert log == ["load a"]
    assert log == ["load a", "close a"]


def test_the_model_not_used_for_longest_makes_room() -> None:
    log: list[str] = []
    with keep_models(most=2):
        for name in ("a", "b", "a", "c"):
            open_kept(name, lambda name=name: Loaded(name, log)).close()
        assert log == ["load a", "load b", "close b", "load c"]
        close_kept()
        assert log[-2:] == ["close a", "close c"]


def test_a_model_in_use_is_never_closed() -> None:
    log: list[str] = []
    with keep_models(most=1):
        used = open_kept("a", lambda: Loaded("a", log))
        open_kept("b", lambda: Loaded("b", log)).close()
        close_kept()
        assert "close a" not in log
        used.close()
    assert log[-1] == "close a"


def test_outside_the_block_every_user_loads_its_own() -> None:
    log: list[str] = []
    for _ in range(2):
        open_kept("a", lambda: Loaded("a", log)).close()
    assert log == ["load a", "close a", "load a", "close a"]
