"""The design that the suite replaces, as its two functions were: AWS's SDK with its defaults, and no more."""
import http.client
import json
import os

import boto3

ENVIRONMENT = os.environ["ENVIRONMENT"]


def api(event):
    boto3.client("lambda").invoke(
        FunctionName=f"trigger-lambda-{ENVIRONMENT}",
        InvocationType="Event",
        Payload=event["body"].encode(),
    )
    return {"statusCode": 200, "body": json.dumps({"message": "Workflow triggered!"})}


def trigger(event):
    step_functions = boto3.client("stepfunctions")
    for state_machine in step_functions.list_state_machines()["stateMachines"]:
        if state_machine["name"] == f"orchestration-{ENVIRONMENT}":
            step_functions.start_execution(stateMachineArn=state_machine["stateMachineArn"], input=json.dumps(event))
            return {"statusCode": 200, "body": json.dumps("Step Function Triggered!")}
    return {"statusCode": 404, "body": json.dumps("State machine not found")}


runtime = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
INVOCATION = "/2018-06-01/runtime/invocation/"
handler = {"api": api, "trigger": trigger}[os.environ["HANDLER"]]
while True:
    runtime.request("GET", INVOCATION + "next")
    response = runtime.getresponse()
    event = json.loads(response.read())
    request_id = response.getheader("Lambda-Runtime-Aws-Request-Id")
    try:
        path, answer = "/response", handler(event)
    except Exception as error:
        path, answer = "/error", {"errorType": type(error).__name__, "errorMessage": str(error)}
    runtime.request("POST", INVOCATION + request_id + path, json.dumps(answer))
    runtime.getresponse().read()
