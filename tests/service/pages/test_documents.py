"""Documents dropped into the chat: models receive their text, never their bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("markitdown")

import httpx

from sizewise.models.fake import FakeModel
from sizewise.service import Settings
from sizewise.service.api_keys import Keys, add_key
from sizewise.service.pages import documents
from tests.documents.test_converting import WORDS, make_docx, make_pdf
from tests.service.test_service import running


def test_documents_come_back_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_docx(tmp_path / "a.docx")
    make_pdf(tmp_path / "b.pdf")
    (tmp_path / "c.html").write_text(f"<script>alert(1)</script><p>{WORDS}</p>", encoding="utf-8")
    with running({"echo": FakeModel("echo")}) as address:
        for path in sorted(tmp_path.glob("?.*")):
            raw = {"content-type": "application/octet-stream"}
            answer = httpx.post(
                f"{address}{documents.PATH}",
                params={"name": path.name},
                content=path.read_bytes(),
                headers=raw,
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
            assert WORDS in " ".join(answer.json()["text"].split())
            assert "%PDF" not in answer.text
            assert "alert" not in answer.text
        monkeypatch.setattr(documents, "MAX_CHARACTERS", 10)
        long = httpx.post(
            f"{address}{documents.PATH}?name=b.pdf", content=(tmp_path / "b.pdf").read_bytes(), timeout=60
        )
        assert long.status_code == 413


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("x.pdf", b"", 400),
        ("x.pdf", b"%PDF-1.7 " + b"\xff" * 500, 400),
        ("x.docx", b"PK\x03\x04 no archive", 400),
        ("../../etc/x.pdf", b"no pdf", 400),
        ("x.xlsx", b"PK\x03\x04", 415),
        ("x.png", b"\x89PNG", 415),
        ("x", b"abc", 415),
        ("x.pdf", b"x" * 9_000_000, 413),
    ],
)
def test_unreadable_documents_are_reported(name: str, body: bytes, status: int) -> None:
    with running({"echo": FakeModel("echo")}) as address:
        answer = httpx.post(f"{address}{documents.PATH}", params={"name": name}, content=body, timeout=60)
        assert answer.status_code == status
        message = answer.json()["error"]["message"]
        assert message
        assert "/tmp" not in message


def test_upload_needs_a_key_and_concurrency_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.toml"
    headers = {"Authorization": f"Bearer {add_key(path, 'one')}"}
    monkeypatch.setattr(documents, "MAX_CONCURRENT", 0)
    with running({"echo": FakeModel("echo")}, Settings(keys=Keys.load(path))) as address:
        assert httpx.post(f"{address}{documents.PATH}?name=x.pdf", content=b"x").status_code == 401
        busy = httpx.post(f"{address}{documents.PATH}?name=x.pdf", content=b"x", headers=headers)
        assert busy.status_code == 429
        assert busy.headers["retry-after"]


def test_page_never_sends_binary_files() -> None:
    page = files("sizewise.service").joinpath("pages", "chat.html").read_text(encoding="utf-8")
    assert ".text()" not in page.replace("answer.text()", "")
    assert "readAsText" not in page
    assert "readAsBinaryString" not in page
    assert page.count("TextDecoder(") == page.count('TextDecoder("utf-8", {fatal: true})') == 1
    assert "documents/text?name=" in page


DROPPED = r"""
globalThis.headers = () => ({});
globalThis.fetch = async (url, asked) => ({ok: true, json: async () => ({text: "read by the service", notes: []})});
const files = {"a.txt": "h\u00e9llo", "a.pdf": "%PDF-1.7", "notes.txt": "%PDF-1.4 x", "b.DOCX": "PK",
  "x.png": new Uint8Array([0x89, 0x50, 0x4e, 0xff]), "x.bin": new Uint8Array([65, 0, 66]), "x.xlsx": "PK\u0003\u0000"};
(async () => {
  const found = {};
  for (const [name, bytes] of Object.entries(files))
    found[name] = await textOf(new File([bytes], name)).then(one => one.text, error => "refused: " + error.message);
  console.log(JSON.stringify(found));
})();
"""


def test_dropped_files_are_decoded_converted_or_rejected() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    page = files("sizewise.service").joinpath("pages", "chat.html").read_text(encoding="utf-8")
    function = re.search(r"async function textOf.*?\n}\n", page, re.DOTALL)
    assert function is not None
    ran = subprocess.run([node, "-e", function[0] + DROPPED], capture_output=True, text=True, timeout=30, check=True)
    found = json.loads(ran.stdout)
    assert found["a.txt"] == "h\u00e9llo"
    assert {found[name] for name in ("a.pdf", "notes.txt", "b.DOCX")} == {"read by the service"}
    assert all(found[name].startswith("refused: ") for name in ("x.png", "x.bin", "x.xlsx"))
