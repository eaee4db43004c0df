"""A real browser (Chromium as QtWebEngine) that obeys one JSON line at a time on stdin; answers on stdout.

{"open": URL, "width": W, "height": H} | {"js": CODE} | {"shot": PATH} | {"size": [W, H]} | {"quit": true}
"""

from __future__ import annotations

import json
import os
import sys
import threading

os.environ.update(
    QT_QPA_PLATFORM="offscreen",
    QT_QUICK_BACKEND="software",
    QSG_RHI_BACKEND="software",
    QTWEBENGINE_CHROMIUM_FLAGS="--no-sandbox --disable-gpu",
    QTWEBENGINE_DISABLE_SANDBOX="1",
)

from PyQt6.QtCore import QObject, QTimer, QUrl, pyqtSignal
from PyQt6.QtWebEngineCore import QWebEnginePage
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication


class Page(QWebEnginePage):
    """Keeps what scripts complain of."""

    said: list[str] = []  # noqa: RUF012

    def javaScriptConsoleMessage(self, _level, message, line, _source):  # type: ignore[no-untyped-def]
        self.said.append(f"{line}: {message}")


class Orders(QObject):
    """Brings orders from the thread that reads them to the one that draws."""

    come = pyqtSignal(dict)


def answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    app = QApplication(sys.argv[:1])
    view = QWebEngineView()
    page = Page(view)
    view.setPage(page)
    view.show()
    orders = Orders()

    def obey(order: dict) -> None:  # type: ignore[type-arg]
        if "open" in order:
            view.resize(order["width"], order["height"])
            waiting = [True]

            def loaded(ok: bool) -> None:
                if waiting:
                    waiting.clear()
                    QTimer.singleShot(300, lambda: answer({"ok": ok}))

            view.loadFinished.connect(loaded)
            view.load(QUrl(order["open"]))
        elif "size" in order:
            view.resize(*order["size"])
            QTimer.singleShot(300, lambda: answer({"ok": True}))
        elif "js" in order:
            page.runJavaScript(order["js"], lambda result: answer({"result": result, "said": page.said}))
        elif "shot" in order:
            QTimer.singleShot(200, lambda: answer({"ok": view.grab().save(order["shot"])}))
        else:
            os._exit(0)

    orders.come.connect(obey)

    def read() -> None:
        for line in sys.stdin:
            orders.come.emit(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    answer({"ready": True})
    app.exec()


if __name__ == "__main__":
    main()
