from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sizewise.cli.main import main


def test_read_prints_the_detected_form_and_rejected_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"instruction": f"Name {i}.", "input": "", "output": f"It is {i}.", "url": "u"} for i in range(20)]
    rows[4]["output"] = ""
    rows[9]["output"] = ""
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["sizewise", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    code, _, err = run("read", str(path))
    assert code == 1
    assert "2 of 20 rows cannot be used (10.0%)" in err
    assert "line 5" in err
    code, out, _ = run("read", str(path), "--max-rejects", "0.1")
    assert code == 0
    assert "rows read as instruction + input + output (Alpaca): 18" in out
    assert "rows set aside: 2, see " in out
    assert "note: x.jsonl, line 5: " in out
    assert "note: x.jsonl: unused columns: url" in out


def test_personal_data_languages_and_origins_are_in_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(12):
        text = f"Das Hafenamt {i} öffnet um acht Uhr und schließt am Samstag. Fragen an amt{i}@example.org. " * 3
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / f"{i}.md").write_text(text, encoding="utf-8")

    def record(*arguments: str) -> dict[str, object]:
        monkeypatch.setattr(sys, "argv", ["sizewise", "read", str(tmp_path / "docs"), "--json", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)["record"]
        return found

    kept, masked = record(), record("--personal-data", "mask")
    assert (kept["personal_data"], kept["personal_data_choice"]) == ({"email": 12}, "keep")
    assert (kept["languages"], kept["origins"]) == ({"de": 12}, {".md": 12})
    assert any("--personal-data mask" in str(note) for note in kept["notes"])  # type: ignore[attr-defined]
    assert "personal_data" not in masked
    assert masked["personal_data_choice"] == "mask"
    assert kept["sha256"] != masked["sha256"]
