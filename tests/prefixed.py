"""A proxy that hands a server out below any path of one part, which it takes away."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_OWN = {"connection", "date", "server", "transfer-encoding"}  # what is between two neighbours


@contextlib.contextmanager
def prefixed(port: int) -> Iterator[str]:
    """Proxy a server of this machine: the address yielded, and a path, "/fmnist/", is its root."""

    class Stripping(_Stripping):
        behind = port

    with ThreadingHTTPServer(("127.0.0.1", 0), Stripping) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()


class _Stripping(BaseHTTPRequestHandler):
    behind: int

    def do_GET(self) -> None:
        """Hand on `/fmnist/docs` as `/docs`, and the answer back as it is."""
        _, _, rest = self.path.removeprefix("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asking = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=30)
        with contextlib.closing(asking):
            asking.request(self.command, f"/{rest}", body, dict(self.headers.items()))
            answer = asking.getresponse()
            content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OWN:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *told: object) -> None:
        """Say nothing."""
