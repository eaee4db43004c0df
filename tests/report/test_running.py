from __future__ import annotations

from pathlib import Path

from sizewise.records import CurvePoint, Recipe
from sizewise.report import write_training_page


def test_the_page_of_a_run_reloads_until_it_is_over(tmp_path: Path) -> None:
    recipe = Recipe(start="pkg:some", tokens=1000)
    points = [
        CurvePoint(
            step=i,
            tokens=100 * i,
            loss=3 - i / 10,
            bits_per_byte=1.0 - i / 100 if i % 2 else None,
            control_bits_per_byte=1.1 if i % 2 else None,
            learning_rate=1e-3,
            seconds=i,
        )
        for i in range(1, 6)
    ]
    path = write_training_page(tmp_path / "t.html", recipe, points, 1000, speed=50.0, start=1.2)
    page = path.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in page
    assert "50% of 1,000 tokens, about 10 s left" in page
    assert "0.95 bits per byte (1.2 before training)" in page
    assert page.count("<svg") == 2
    write_training_page(path, recipe, points, 500, start=1.2, finished=True)
    assert "refresh" not in path.read_text(encoding="utf-8")
