"""Says hello, and which instance said it."""

import os
import socketserver


class Hello(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            line = self.rfile.readline(65536)
            if not line:
                return
            while self.rfile.readline(65536).strip():
                pass
            body = f"Hello from Cupola, instance {os.environ.get('CF_INSTANCE_INDEX', '?')}\n".encode()
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("0.0.0.0", int(os.environ["PORT"])), Hello) as server:
        print("listening on port", os.environ["PORT"], flush=True)
        server.serve_forever()
