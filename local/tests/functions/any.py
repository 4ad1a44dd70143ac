#!/usr/bin/env python3
"""A function that does what its event says, straight on the Runtime API."""
import http.client
import json
import os
import sys
import time

if os.environ.get("INIT") == "exit":
    print("the setting X is missing", flush=True)
    sys.exit(3)

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
PREFIX = "/2018-06-01/runtime/invocation/"


def answer(path, body):
    api.request("POST", PREFIX + path, json.dumps(body))
    api.getresponse().read()


while True:
    api.request("GET", PREFIX + "next")
    response = api.getresponse()
    event = json.loads(response.read())
    request_id = response.getheader("Lambda-Runtime-Aws-Request-Id")
    sys.stdout.buffer.write(b"no UTF-8: \xff\n")
    print("event", request_id, flush=True)
    do = event.get("do")
    if do == "crash":
        os._exit(7)
    if do == "hang":
        time.sleep(60)
    if do == "fail":
        answer(request_id + "/error", {"errorType": "My.Error", "errorMessage": "as told"})
        continue
    if do == "sleep":
        time.sleep(event["seconds"])
    if do == "large":
        answer(request_id + "/response", "x" * (7 << 20))
        continue
    answer(request_id + "/response", {
        "event": event,
        "pid": os.getpid(),
        "requestId": request_id,
        "deadlineIn": int(response.getheader("Lambda-Runtime-Deadline-Ms")) / 1000 - time.time(),
        "arn": response.getheader("Lambda-Runtime-Invoked-Function-Arn"),
        "context": response.getheader("Lambda-Runtime-Client-Context"),
        "environment": dict(os.environ),
    })
    if do == "answer and exit":
        os._exit(7)
