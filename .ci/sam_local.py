#!/usr/bin/env python3
"""Runs the functions in Docker, with `sam local invoke` and the events kept beside them and with `sam local start-api`,
against a running `cargo local up`.  Usage: .ci/sam_local.py SAM, after `sam build` for this machine's processor."""

import contextlib, ipaddress, json, os, pathlib, re, shutil, signal, socket, socketserver, subprocess, sys, tempfile, threading
import time, urllib.error, urllib.request

SAM = sys.argv[1]
# Nothing of the caller's own AWS account.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
ENVIRONMENT |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1"}


def check(what, got, expected):
    if got != expected:
        sys.exit(f"FAILED  {what}\n  expected  {json.dumps(expected)}\n  got       {json.dumps(got)}")
    print(f"ok  {what}", flush=True)


def text(file):
    file.seek(0)
    return file.read()


@contextlib.contextmanager
def running(*command):
    """Runs a command; ends it as Ctrl-C does, so that it cleans up after itself; shows its output where a check fails."""
    with tempfile.TemporaryFile("a+") as out, tempfile.TemporaryFile("a+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=ENVIRONMENT)
        try:
            yield process, out, err
        except BaseException:
            print(f"\n$ {' '.join(command)}\n{text(out)[-10_000:]}\n{text(err)[-10_000:]}", flush=True)
            raise
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def wait_for(pattern, process, file):
    while not (found := re.search(pattern, text(file), re.DOTALL)):
        if process.poll() is not None:
            sys.exit("FAILED  it has ended")
        time.sleep(0.2)
    return found.groups()


class Relay(socketserver.BaseRequestHandler):
    """Containers do not reach the loopback interface, where the suite listens: hands their connections on to it."""

    def handle(self):
        with socket.create_connection(("127.0.0.1", self.server.server_address[1])) as suite:
            threading.Thread(target=self.copy, args=(suite, self.request), daemon=True).start()
            self.copy(self.request, suite)

    def copy(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def relay(port):
    """Where containers reach this port of the loopback interface."""
    bridge = json.loads(subprocess.check_output(["docker", "network", "inspect", "bridge"]))[0]["IPAM"]["Config"][0]
    host = bridge.get("Gateway") or str(next(ipaddress.ip_network(bridge["Subnet"]).hosts()))
    server = socketserver.ThreadingTCPServer((host, int(port)), Relay)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{host}:{port}"


def request(url, body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def finishes(api, workflow, payload):
    workflow = request(f"{api}/workflows/{workflow}?wait=20")[1]
    check("  and its workflow finishes", [workflow["status"], workflow["output"]["data"]], ["SUCCEEDED", payload])


@contextlib.contextmanager
def invoke(function, file, options):
    """The function's answer, and the event that it answers. SAM CLI's exit code tells nothing: a failed one is 0, too."""
    with running(SAM, "local", "invoke", function, "--event", f"functions/{file}", *options) as (process, out, _):
        process.wait(120)
        yield json.loads(text(out) or "{}"), json.loads(pathlib.Path("functions", file).read_text())


def invoke_each(api, options):
    triggered = {"statusCode": 200, "body": '"Step Function Triggered!"'}
    with invoke("Task1Function", "task1/events/step.json", options) as (answer, event):
        made = {"specversion": "1.0", "id": event["workflowId"], "source": "/trigger-workflow", "data": event["input"]}
        check("Task1Function makes an event", {name: answer.get(name) for name in made}, made)
    with invoke("Task2Function", "task2/events/step.json", options) as (answer, event):
        check("Task2Function passes it on", answer, event["input"])
    with invoke("TriggerFunction", "trigger/events/accepted.json", options) as (answer, event):
        check("TriggerFunction starts what the API accepted", answer, triggered)
        finishes(api, event["workflowId"], json.loads(event["payload"]))
    with invoke("TriggerFunction", "trigger/events/on-failure.json", options) as (answer, _):
        check("TriggerFunction takes the same from the queue", answer, {"batchItemFailures": []})
    with invoke("TriggerFunction", "trigger/events/direct.json", options) as (answer, event):
        check("TriggerFunction starts what comes without the API", answer, triggered)
        newest, accepted = request(f"{api}/workflows")[1]["workflows"]
        finishes(api, newest["workflowId"], event)
    with invoke("ApiFunction", "api/events/post.json", options) as (answer, event):
        body = json.loads(answer.get("body", "{}"))
        check("ApiFunction triggers a workflow", [answer.get("statusCode"), body.get("message")], [200, "Workflow triggered!"])
        finishes(api, body["workflowId"], json.loads(event["body"]))
    with invoke("ApiFunction", "api/events/get.json", options) as (answer, _):
        # In Docker the function's ARN has another account than the suite, and so has the execution that it asks for.
        body = json.loads(answer.get("body", "{}"))
        check("ApiFunction tells of one that is not there", [answer.get("statusCode"), body.get("type")], [404, "/problems/unknown-workflow"])


def start_api(api, options):
    with running(SAM, "local", "start-api", "--port", "0", "--warm-containers", "LAZY", *options) as (process, _, err):
        [url] = wait_for(r"Running on (http://[\d.:]+)", process, err)
        status, body = request(f"{url}/trigger-workflow", b'{"key":"value"}')
        check("start-api triggers a workflow", [status, body.get("message")], [200, "Workflow triggered!"])
        finishes(api, body["workflowId"], {"key": "value"})
        check("start-api refuses what is no JSON", request(f"{url}/trigger-workflow", b"key=value")[0], 400)
        check("start-api knows no other path", request(f"{url}/elsewhere")[0], 404)


def main():
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        print("skipped: no Docker Engine here")
        return
    subprocess.run([".ci/lambda-image"], check=True)
    # Also where a shell in the background has them ignored; and the commands get them as Python finds them here.
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, signal.default_int_handler)
    with running("cargo", "run", "--quiet", "--locked", "--package", "local", "--", "up", "--port", "0") as (process, out, _):
        ports = wait_for(r"API +http\S+:(\d+).*Lambda +http\S+:(\d+).*Step Functions +http\S+:(\d+)", process, out)
        lambda_url, aws_url = map(relay, ports[1:])
        urls = {"AWS_ENDPOINT_URL": aws_url, "AWS_ENDPOINT_URL_LAMBDA": lambda_url}
        # SAM CLI's own ARN of the queue is a function's.
        queue = {"ON_FAILURE_QUEUE_ARN": "arn:aws:sqs:us-east-1:123456789012:OnFailureQueue"}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as variables:
            trigger = {"AWS_ENDPOINT_URL": aws_url, **queue}
            json.dump({"ApiFunction": urls, "TriggerFunction": trigger}, variables)
            variables.flush()
            for checks in invoke_each, start_api:
                checks(f"http://127.0.0.1:{ports[0]}", ["--env-vars", variables.name, "--skip-pull-image"])


main()
