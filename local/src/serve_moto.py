"""Serves moto's AWS services for one local suite, and ends when its standard input does.

usage: serve_moto.py PORT LAMBDA_PORT
Prints the port that it serves on (PORT 0 takes a free one), or "in use". The state machine interpreter calls Lambda on
LAMBDA_PORT.
"""
import errno
import json
import logging
import os
import socket
import sys
import threading
import urllib.request


def end_with_standard_input():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_standard_input, daemon=True).start()

port, lambda_port = int(sys.argv[1]), sys.argv[2]
try:
    listener = socket.create_server(("127.0.0.1", port))
except OSError as error:
    if error.errno == errno.EADDRINUSE:
        print("in use", flush=True)
    raise
port = listener.getsockname()[1]

os.environ["MOTO_PORT"] = lambda_port
os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "local"
logging.getLogger("werkzeug").setLevel(logging.ERROR)

from moto.moto_server.werkzeug_app import (  # noqa: E402, after MOTO_PORT is set
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.stepfunctions.exceptions import AWSError  # noqa: E402
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication  # noqa: E402
from moto.stepfunctions.responses import StepFunctionResponse  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

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



def redrive_execution(self):
    self.stepfunction_backend.describe_execution(self._get_param("executionArn"))
    raise ExecutionNotRedrivable("Step Functions on one machine (moto) has no redrive: post the payload again")


class ExecutionNotRedrivable(AWSError):
    TYPE = "ExecutionNotRedrivable"


# moto would answer this action with a server error.
StepFunctionResponse.redrive_execution = redrive_execution

# As moto.server.ThreadedMotoServer does, which waits for ever where the port is taken.
app = DomainDispatcherApplication(create_backend_app)
server = make_server(
    "127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler, fd=listener.fileno()
)
serving = threading.Thread(target=server.serve_forever, daemon=True)
serving.start()
config = json.dumps({"stepfunctions": {"execute_state_machine": True}}).encode()
urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/config", data=config).close()
print(port, flush=True)
serving.join()
