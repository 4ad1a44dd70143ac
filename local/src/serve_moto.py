"""Serves moto's AWS services for one local suite, and ends when its standard input does.

usage: serve_moto.py PORT LAMBDA_PORT
Prints the port that it serves on (PORT 0 takes a free one). The state machine interpreter calls Lambda on LAMBDA_PORT.
"""
import json
import logging
import os
import sys
import threading
import urllib.request

port, lambda_port = int(sys.argv[1]), sys.argv[2]
os.environ["MOTO_PORT"] = lambda_port
os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "local"
logging.getLogger("werkzeug").setLevel(logging.ERROR)

from moto.server import ThreadedMotoServer  # noqa: E402, after MOTO_PORT is set
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication  # noqa: E402
from moto.stepfunctions.responses import StepFunctionResponse  # noqa: E402

lock = threading.Lock()


def locked(function):
    def call(*arguments):
        with lock:
            return function(*arguments)

    return call


# moto sets the status of an execution that ends, then its output. Whoever looks in between sees it SUCCEEDED with none.
for owner, name in (
    (BaseExecutionWorkerCommunication, "_reflect_execution_status"),
    (StepFunctionResponse, "describe_execution"),
):
    setattr(owner, name, locked(getattr(owner, name)))

server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
server.start()
port = server.get_host_and_port()[1]
config = json.dumps({"stepfunctions": {"execute_state_machine": True}}).encode()
urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/config", data=config).close()
print(port, flush=True)
sys.stdin.read()
os._exit(0)
