"""A server that stands in for an OpenAI-compatible endpoint."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def reply(content: Any, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 11, "completion_tokens": 2}
    message = {"role": "assistant", "content": content}
    return {"model": "judge-0125", "choices": [{"message": message}], "usage": usage, **more}


class StandIn:
    """A server whose replies are given beforehand; the last one is given again and again."""

    def __init__(self) -> None:
        self.script: list[Any] = [(200, reply("1"))]
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                stand_in.asked.append((self.path, dict(self.headers), body))
                left = stand_in.script
                said = left.pop(0) if len(left) > 1 else left[0]
                status, content, *headers = said(body) if callable(said) else said
                text = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                for name, value in dict(*headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    @property
    def texts(self) -> list[str]:
        return [body["messages"][0]["content"] for _, _, body in self.asked]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
