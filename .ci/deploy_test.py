"""Deploys the build into moto: packaged by SAM CLI, transformed, created as a stack, and looked at.

usage: deploy_test.py MOTO_SERVER SAM, after `sam build`.
moto makes no API Gateway v2, no EventInvokeConfig, and reads no DefinitionS3Location: template_test.py holds the first two
against the transformed template, and the definition is put in here from where SAM CLI has put it.
"""
import base64
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

moto_server, sam = sys.argv[1:]
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
os.environ |= {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "us-east-1",
    "SAM_CLI_TELEMETRY": "0",
}
os.environ.pop("AWS_PROFILE", None)

import boto3  # noqa: E402, after the environment is set
from transform import transformed  # noqa: E402

FUNCTIONS = {"ApiFunction": "api", "TriggerFunction": "trigger-lambda", "Task1Function": "Task1", "Task2Function": "Task2"}


def check(what, got, expected):
    if got != expected:
        sys.exit(f"FAILED  {what}\n  expected  {expected}\n  got       {got}")
    print(f"ok  {what}", flush=True)


def started():
    server = subprocess.Popen([moto_server, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        except OSError:
            time.sleep(0.1)
    sys.exit("moto did not start")


def packaged():
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="artifacts")
    file = Path("target/ci/packaged.yaml")
    command = [sam, "package", "--template-file", ".aws-sam/build/template.yaml", "--s3-bucket", "artifacts"]
    subprocess.run([*command, "--no-progressbar", "--output-template-file", file], check=True, stdout=subprocess.DEVNULL)
    template = transformed(str(file), {})
    resources = template["Resources"]
    for name in [name for name, resource in resources.items() if resource["Type"].startswith("AWS::ApiGatewayV2::")]:
        del resources[name]
    # What refers to the API, which moto does not have.
    for name in ("ApiPermission", "ApiServerErrorsAlarm", "ApiLatencyAlarm", "Dashboard"):
        del resources[name]
    for name in ("ApiUrl", "DashboardName"):
        del template["Outputs"][name]
    orchestration = resources["Orchestration"]["Properties"]
    location = orchestration.pop("DefinitionS3Location")
    text = s3.get_object(Bucket=location["Bucket"], Key=location["Key"])["Body"].read().decode()
    orchestration["DefinitionString"] = {"Fn::Sub": [text, orchestration.pop("DefinitionSubstitutions")]}
    return template


def deployed(template):
    cloudformation = boto3.client("cloudformation")
    s3 = boto3.client("s3")
    s3.put_object(Bucket="artifacts", Key="template.json", Body=json.dumps(template))
    url = "https://artifacts.s3.amazonaws.com/template.json"
    cloudformation.create_stack(StackName="orchestration-dev", TemplateURL=url, Capabilities=["CAPABILITY_IAM"])
    [stack] = cloudformation.describe_stacks(StackName="orchestration-dev")["Stacks"]
    check("the stack is created", stack["StackStatus"], "CREATE_COMPLETE")
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName="orchestration-dev")
    return {r["LogicalResourceId"]: r["PhysicalResourceId"] for page in pages for r in page["StackResourceSummaries"]}


def look(template, resources):
    functions, iam = boto3.client("lambda"), boto3.client("iam")
    arns = {}
    for logical_id, name in FUNCTIONS.items():
        configuration = functions.get_function(FunctionName=f"{name}-dev")["Configuration"]
        arns[logical_id] = configuration["FunctionArn"]
        address = template["Resources"][logical_id]["Properties"]["Code"]
        code = boto3.client("s3").get_object(Bucket=address["S3Bucket"], Key=address["S3Key"])["Body"].read()
        digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
        check(f"{name}-dev has the code that was packaged", configuration["CodeSha256"], digest)
        binary = zipfile.ZipFile(io.BytesIO(code)).read("bootstrap")
        check("  which is what was built", binary, Path(f".aws-sam/build/{logical_id}/bootstrap").read_bytes())
        role = configuration["Role"].rsplit("/")[-1]
        check("  and its own role", role, resources[logical_id.removesuffix("Function") + "Role"])
        # moto attaches no ManagedPolicyArns.
        made = template["Resources"][f"{logical_id.removesuffix('Function')}Role"]["Properties"].get("Policies", [])
        policies = iam.list_role_policies(RoleName=role)["PolicyNames"]
        check("  which has its policies", policies, [policy["PolicyName"] for policy in made])
    queues = boto3.client("sqs")
    url = resources["OnFailureQueue"]
    attributes = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    kept = (attributes["MessageRetentionPeriod"], attributes["VisibilityTimeout"])
    check("the on-failure queue keeps a message for 14 days", kept, ("1209600", "180"))
    [mapping] = functions.list_event_source_mappings()["EventSourceMappings"]
    leads = (mapping["EventSourceArn"], mapping["FunctionArn"])
    check("its mapping leads to trigger", leads, (attributes["QueueArn"], arns["TriggerFunction"]))
    states = boto3.client("stepfunctions")
    [machine] = states.list_state_machines()["stateMachines"]
    check("the state machine has its name", machine["name"], "orchestration-dev")
    definition = json.loads(states.describe_state_machine(stateMachineArn=machine["stateMachineArn"])["definition"])
    called = {name: state["Parameters"]["FunctionName"] for name, state in definition["States"].items()}
    check("  and calls the functions", called, {"Task1": arns["Task1Function"], "Task2": arns["Task2Function"]})


server = started()
try:
    template = packaged()
    look(template, deployed(template))
finally:
    server.terminate()
