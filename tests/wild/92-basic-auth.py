"""A tracking server behind basic authentication (nginx, DagsHub, or MLflow's own).

MLFLOW_TRACKING_USERNAME/PASSWORD are MLflow's own way and must serve the first question as well.
"""

from __future__ import annotations

import base64
import http.server
import os
import threading

from wild import nb, scratch, verdict


def main() -> None:
    scratch("92")
    wanted = "Basic " + base64.b64encode(b"me:secret").decode()
    seen = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            ok = self.headers.get("Authorization") == wanted
            seen.append((self.path[:40], ok))
            self.send_response(200 if ok else 401)
            self.end_headers()
            self.wfile.write(b"OK" if self.path == "/health" else b"{}")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(
        MLFLOW_TRACKING_URI=f"http://127.0.0.1:{server.server_port}",
        MLFLOW_TRACKING_USERNAME="me",
        MLFLOW_TRACKING_PASSWORD="secret",
    )
    nb("run", "digits", "budget.epochs=1", "dataset.train_size=100", "--jobs", "1")
    print("asked:", seen[:6])
    verdict(
        bool(seen) and seen[0][1],
        "credentials are sent"
        if seen and seen[0][1]
        else "the first question goes without the credentials and is refused: no run is possible",
    )


if __name__ == "__main__":
    main()
