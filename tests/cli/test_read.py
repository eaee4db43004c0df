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
