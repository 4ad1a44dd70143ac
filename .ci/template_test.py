"""What the template becomes, tested as data: transformed as CloudFormation does it, and rendered with parameters.

In what is rendered, a reference to a resource is its logical id, and an attribute of one is LogicalId.Attribute.
"""
import itertools
import json
import re
import unittest
from pathlib import Path

import tomlkit
from cloud_radar.cf.unit import Template
from transform import transformed

PROJECT = Path(__file__).parent.parent
TOKENS = {"ApiAuth": "JWT", "JwtIssuer": "https://issuer.example", "JwtAudience": "one,two"}
FUNCTIONS = ["ApiFunction", "TriggerFunction", "Task1Function", "Task2Function"]
SINK = {"SinkUrl": "https://sink.example/"}


def rendered(**parameters):
    secrets = {"secretsmanager": {"WebhookSecret:SecretString": "secret"}}
    template = transformed(str(PROJECT / "template.yaml"), parameters)
    return Template(template, dynamic_references=secrets).render(parameters)


def of_type(template, kind):
    resources = template["Resources"].items()
    return {name: resource.get("Properties", {}) for name, resource in resources if resource["Type"] == kind}


def as_list(value):
    return value if isinstance(value, list) else [value]


class Access(unittest.TestCase):
    def test_every_route_lets_in_whom_the_parameter_says(self):
        for parameters, mode, authorizer in [
            ({}, "AWS_IAM", None),
            ({"ApiAuth": "AWS_IAM"}, "AWS_IAM", None),
            (TOKENS, "JWT", "TokenAuthorizer"),
            ({"ApiAuth": "NONE"}, "NONE", None),
            ({**TOKENS, "AllowedOrigins": "https://page.example"}, "JWT", "TokenAuthorizer"),
        ]:
            with self.subTest(parameters):
                template = rendered(**parameters)
                routes = of_type(template, "AWS::ApiGatewayV2::Route")
                self.assertGreaterEqual(len(routes), 7)
                for name, route in routes.items():
                    self.assertEqual(route["AuthorizationType"], mode, name)
                    self.assertEqual(route.get("AuthorizerId"), authorizer, name)
                    self.assertEqual(route["ApiId"], "HttpApi", name)
                authorizers = of_type(template, "AWS::ApiGatewayV2::Authorizer")
                self.assertEqual(list(authorizers), [authorizer] if authorizer else [])
                # No other door: a function URL, or a stage whose routes are not these.
                self.assertEqual(of_type(template, "AWS::Lambda::Url"), {})
                self.assertEqual(list(of_type(template, "AWS::ApiGatewayV2::Api")), ["HttpApi"])

    def test_tokens_are_held_against_their_issuer_and_audience(self):
        authorizer = of_type(rendered(**TOKENS), "AWS::ApiGatewayV2::Authorizer")["TokenAuthorizer"]
        self.assertEqual(authorizer["AuthorizerType"], "JWT")
        self.assertEqual(authorizer["IdentitySource"], ["$request.header.Authorization"])
        expected = {"Issuer": "https://issuer.example", "Audience": ["one", "two"]}
        self.assertEqual(authorizer["JwtConfiguration"], expected)
        rule = transformed(str(PROJECT / "template.yaml"), {})["Rules"]["TokensHaveAnIssuer"]
        self.assertEqual(rule["RuleCondition"], {"Fn::Equals": [{"Ref": "ApiAuth"}, "JWT"]})
        asserted = [assertion["Assert"] for assertion in rule["Assertions"]]
        given = [{"Fn::Not": [{"Fn::Equals": [{"Ref": name}, ""]}]} for name in ("JwtIssuer", "JwtAudience")]
        self.assertEqual(asserted, given)

    def test_pages_of_other_origins_may_call_only_where_they_are_named(self):
        template = rendered()
        self.assertNotIn("CorsConfiguration", of_type(template, "AWS::ApiGatewayV2::Api")["HttpApi"])
        keys = {route["RouteKey"] for route in of_type(template, "AWS::ApiGatewayV2::Route").values()}
        self.assertIn("$default", keys)
        template = rendered(AllowedOrigins="https://a.example,https://b.example")
        cors = of_type(template, "AWS::ApiGatewayV2::Api")["HttpApi"]["CorsConfiguration"]
        self.assertEqual(cors["AllowOrigins"], ["https://a.example", "https://b.example"])
        self.assertIn("idempotency-key", cors["AllowHeaders"])
        self.assertNotIn("AllowCredentials", cors)
        # An OPTIONS request without credentials must not meet an authorizer.
        keys = {route["RouteKey"] for route in of_type(template, "AWS::ApiGatewayV2::Route").values()}
        self.assertFalse([key for key in keys if key == "$default" or key.startswith(("ANY", "OPTIONS"))])

    def test_each_route_is_throttled_by_parameters(self):
        limits = {"TriggerRate": 7, "TriggerBurst": 8, "ReadRate": 5, "ReadBurst": 6}
        stage = of_type(rendered(**limits), "AWS::ApiGatewayV2::Stage")["ApiStage"]
        def of(settings):
            return settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]
        self.assertEqual(of(stage["DefaultRouteSettings"]), (5, 6))
        self.assertEqual({key: of(route) for key, route in stage["RouteSettings"].items()}, {"POST /trigger-workflow": (7, 8)})

    def test_the_access_log_is_json_without_payloads_or_callers_credentials(self):
        template = rendered()
        settings = of_type(template, "AWS::ApiGatewayV2::Stage")["ApiStage"]["AccessLogSettings"]
        fields = json.loads(settings["Format"])
        self.assertEqual(settings["DestinationArn"], "ApiLogs.Arn")
        self.assertLessEqual({"requestId", "route", "status", "latency"}, fields.keys())
        for value in fields.values():
            self.assertRegex(value, r"^\$context\.[a-zA-Z.]+$")
            self.assertNotRegex(value, r"path|claims|userArn|accountId|authorizer\.principalId")


class Roles(unittest.TestCase):
    # Each role: what it may do, to what. Nothing else, and "*" once.
    EXPECTED = {
        "ApiRole": [
            (["lambda:InvokeFunction"], ["TriggerFunction.Arn"]),
            (["states:ListExecutions"], ["Orchestration"]),
            (
                ["states:DescribeExecution", "states:GetExecutionHistory", "states:RedriveExecution", "states:StopExecution"],
                ["arn:aws:states:us-east-1:555555555555:execution:Orchestration.Name:*"],
            ),
        ],
        "TriggerRole": [
            (["states:DescribeStateMachine", "states:StartExecution"], ["arn:aws:states:us-east-1:555555555555:stateMachine:orchestration-dev"]),
            (["states:DescribeExecution"], ["arn:aws:states:us-east-1:555555555555:execution:orchestration-dev:*"]),
            (["states:ListStateMachines"], ["*"]),
            (["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:SendMessage"], ["OnFailureQueue.Arn"]),
        ],
        "Task1Role": [],
        "Task2Role": [(["kms:Decrypt"], ["Key.Arn"])],
        "OrchestrationRole": [(["lambda:InvokeFunction"], ["Task1Function.Arn", "Task2Function.Arn"])],
    }
    # X-Ray has no resources to name, and is left to AWS's own policies.
    TRACES = {"AWSXRayDaemonWriteAccess", "AWSXrayWriteOnlyAccess"}

    @staticmethod
    def statements(document):
        for statement in document["Statement"]:
            assert statement["Effect"] == "Allow" and statement.keys() == {"Effect", "Action", "Resource"}, statement
            yield sorted(as_list(statement["Action"])), as_list(statement["Resource"])

    def test_each_role_may_do_what_it_needs_and_no_more(self):
        template = rendered(**SINK)
        roles = {name: role for name, role in of_type(template, "AWS::IAM::Role").items() if name in self.EXPECTED}
        may = {
            name: [pair for policy in role.get("Policies", []) for pair in self.statements(policy["PolicyDocument"])]
            for name, role in roles.items()
        }
        self.assertEqual(may, self.EXPECTED)
        [(name, logs)] = of_type(template, "AWS::IAM::ManagedPolicy").items()
        expected = [(["logs:CreateLogStream", "logs:PutLogEvents"], ["FunctionLogs.Arn"])]
        self.assertEqual(list(self.statements(logs["PolicyDocument"])), expected)
        for role_name, role in roles.items():
            policies = {arn.rsplit("/")[-1] for arn in role["ManagedPolicyArns"]}
            own = set() if role_name == "OrchestrationRole" else {name}
            self.assertEqual(len(policies & self.TRACES), 1, role_name)
            self.assertEqual(policies - self.TRACES, own, role_name)
        self.assertFalse(of_type(template, "AWS::IAM::Policy"))

    def test_each_function_has_a_role_of_its_own_that_lambda_alone_takes(self):
        template = rendered()
        functions = of_type(template, "AWS::Lambda::Function")
        roles = {name: function["Role"] for name, function in functions.items()}
        self.assertLessEqual({name: f"{name.removesuffix('Function')}Role.Arn" for name in FUNCTIONS}.items(), roles.items())
        self.assertEqual(len(set(roles.values())), len(roles))
        for name, role in of_type(template, "AWS::IAM::Role").items():
            services = [as_list(s["Principal"]["Service"]) for s in role["AssumeRolePolicyDocument"]["Statement"]]
            expected = "states.amazonaws.com" if name == "OrchestrationRole" else "lambda.amazonaws.com"
            self.assertEqual(services, [[expected]], name)

    def test_api_gateway_alone_may_invoke_the_api(self):
        [permission] = of_type(rendered(), "AWS::Lambda::Permission").values()
        self.assertEqual(permission["FunctionName"], "ApiFunction")
        self.assertEqual(permission["Principal"], "apigateway.amazonaws.com")
        self.assertEqual(permission["SourceArn"], "arn:aws:execute-api:us-east-1:555555555555:HttpApi/*")


class Data(unittest.TestCase):
    def test_logs_exist_encrypted_with_a_retention(self):
        template = rendered(LogRetentionDays=90)
        groups = of_type(template, "AWS::Logs::LogGroup")
        self.assertEqual(groups.keys(), {"FunctionLogs", "ApiLogs"})
        for group in groups.values():
            self.assertEqual(group, {"RetentionInDays": 90, "KmsKeyId": "Key.Arn"})
        for name, function in of_type(template, "AWS::Lambda::Function").items():
            self.assertEqual(function["LoggingConfig"], {"LogFormat": "JSON", "LogGroup": "FunctionLogs"}, name)

    def test_the_key_serves_logs_and_alarms_of_this_account(self):
        key = of_type(rendered(), "AWS::KMS::Key")["Key"]
        self.assertTrue(key["EnableKeyRotation"])
        services = [s for s in key["KeyPolicy"]["Statement"] if "Service" in s["Principal"]]
        principals = {statement["Principal"]["Service"] for statement in services}
        self.assertEqual(principals, {"logs.us-east-1.amazonaws.com", "cloudwatch.amazonaws.com"})
        for statement in services:
            self.assertIn("555555555555", json.dumps(statement["Condition"]), statement)

    def test_the_queue_is_encrypted_and_stays_when_the_stack_goes(self):
        queue = rendered()["Resources"]["OnFailureQueue"]
        self.assertEqual((queue["DeletionPolicy"], queue["UpdateReplacePolicy"]), ("RetainExceptOnCreate", "Retain"))
        properties = queue["Properties"]
        self.assertTrue(properties["SqsManagedSseEnabled"])
        self.assertEqual(properties["MessageRetentionPeriod"], 14 * 24 * 60 * 60)
        # A key of the stack would be deleted with the stack, and a FIFO queue takes no records.
        self.assertFalse({"KmsMasterKeyId", "FifoQueue"} & properties.keys())

    def test_the_secret_is_there_with_the_sink_and_out_of_sight(self):
        self.assertEqual(of_type(rendered(), "AWS::SecretsManager::Secret"), {})
        template = rendered(**SINK)
        self.assertEqual(of_type(template, "AWS::SecretsManager::Secret")["WebhookSecret"]["KmsKeyId"], "Key.Arn")
        task2 = of_type(template, "AWS::Lambda::Function")["Task2Function"]
        self.assertEqual(task2["Environment"]["Variables"]["WEBHOOK_SECRET"], "whsec_secret")
        self.assertEqual(task2["KmsKeyArn"], "Key.Arn")

    def test_traces_go_through(self):
        template = rendered()
        for name, function in of_type(template, "AWS::Lambda::Function").items():
            self.assertEqual(function["TracingConfig"], {"Mode": "Active"}, name)
        state_machine = of_type(template, "AWS::StepFunctions::StateMachine")["Orchestration"]
        self.assertTrue(state_machine["TracingConfiguration"]["Enabled"])


class Invocations(unittest.TestCase):
    def test_what_the_api_invokes_is_what_the_retries_and_the_destination_are_set_for(self):
        template = rendered()
        sources = "".join(path.read_text() for path in (PROJECT / "functions/api/src").rglob("*.rs"))
        # Without a qualifier an Invoke is one of $LATEST.
        invoked = re.findall(r"\.qualifier\(([^)]*)\)", sources) or ["$LATEST"]
        [config] = of_type(template, "AWS::Lambda::EventInvokeConfig").values()
        self.assertEqual((config["FunctionName"], [config["Qualifier"]]), ("TriggerFunction", invoked))
        self.assertEqual(config["DestinationConfig"], {"OnFailure": {"Destination": "OnFailureQueue.Arn"}})
        self.assertEqual((config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]), (2, 6 * 60 * 60))
        function = of_type(template, "AWS::Lambda::Function")["TriggerFunction"]
        self.assertEqual(function["FunctionName"], "trigger-lambda-dev")
        api = of_type(template, "AWS::Lambda::Function")["ApiFunction"]
        self.assertEqual(api["Environment"]["Variables"]["ENVIRONMENT"], "dev")
        self.assertEqual(of_type(template, "AWS::Lambda::Alias"), {})

    def test_the_redrive_is_off_and_reports_what_fails(self):
        [mapping] = of_type(rendered(), "AWS::Lambda::EventSourceMapping").values()
        self.assertEqual(mapping["Enabled"], "false")
        self.assertEqual((mapping["FunctionName"], mapping["EventSourceArn"]), ("TriggerFunction", "OnFailureQueue.Arn"))
        self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])
        [mapping] = of_type(rendered(RedriveFailed="true"), "AWS::Lambda::EventSourceMapping").values()
        self.assertEqual(mapping["Enabled"], "true")

    def test_no_concurrency_is_reserved_until_a_parameter_asks(self):
        def reserved(template):
            functions = of_type(template, "AWS::Lambda::Function").items()
            return {name: f["ReservedConcurrentExecutions"] for name, f in functions if "ReservedConcurrentExecutions" in f}
        self.assertEqual(reserved(rendered()), {})
        self.assertEqual(reserved(rendered(TriggerConcurrency="5")), {"TriggerFunction": "5"})

    def test_the_state_machine_gets_every_name_that_its_definition_has(self):
        state_machine = of_type(rendered(), "AWS::StepFunctions::StateMachine")["Orchestration"]
        definition = (PROJECT / "statemachine/orchestration.asl.json").read_text()
        self.assertEqual(set(re.findall(r"\$\{(\w+)\}", definition)), state_machine["DefinitionSubstitutions"].keys())
        self.assertEqual(state_machine["StateMachineType"], "STANDARD")

    def test_the_longest_environment_still_has_names(self):
        template = rendered(Environment="e" * 40)
        for kind, name, limit in [
            ("AWS::Lambda::Function", "FunctionName", 64),
            ("AWS::StepFunctions::StateMachine", "StateMachineName", 80),
            ("AWS::ApiGatewayV2::Api", "Name", 128),
            ("AWS::CloudWatch::Dashboard", "DashboardName", 255),
        ]:
            for properties in of_type(template, kind).values():
                self.assertLessEqual(len(properties[name]), limit, name)
                self.assertIn("e" * 40, properties[name])


class Parameters(unittest.TestCase):
    def test_what_would_do_harm_is_refused(self):
        parameters = transformed(str(PROJECT / "template.yaml"), {})["Parameters"]
        for name, good, bad in [
            # None would stop everything, and the redrive alone may take two.
            ("TriggerConcurrency", ["", "3", "10", "1000"], ["0", "1", "2", "-1", "03", "many"]),
            # A blank would be a part of the name, and no token or page would match.
            ("JwtAudience", ["", "a", "a,b"], ["a, b", "a,", ","]),
            ("AllowedOrigins", ["", "https://a.example", "http://localhost:8000,https://b.example"],
             ["*", "https://*", "https://a.example/", "https://a.example, https://b.example", "a.example"]),
        ]:
            pattern = parameters[name]["AllowedPattern"]
            self.assertEqual([value for value in good + bad if re.fullmatch(pattern, value)], good, name)

    def test_an_open_door_is_shut_again_by_a_deployment(self):
        # A stack keeps a parameter that is not given.
        for environment in tomlkit.parse((PROJECT / "samconfig.toml").read_text()).values():
            if isinstance(environment, dict):
                given = environment["global"]["parameters"]["parameter_overrides"]
                self.assertIn("ApiAuth=", "".join(given))

    def test_the_secret_is_read_again_when_the_rotation_is_raised(self):
        def task2(**parameters):
            return of_type(rendered(**SINK, **parameters), "AWS::Lambda::Function")["Task2Function"]
        self.assertNotEqual(task2(WebhookSecretRotation=1), task2())


class Alarms(unittest.TestCase):
    EXPECTED = {
        *itertools.product(["AWS/Lambda"], ["Errors", "Throttles"], FUNCTIONS),
        ("AWS/ApiGateway", "5xx", "HttpApi"),
        ("AWS/ApiGateway", "Latency", "HttpApi"),
        ("AWS/Lambda", "AsyncEventAge", "TriggerFunction"),
        ("AWS/Lambda", "AsyncEventsDropped", "TriggerFunction"),
        ("AWS/Lambda", "DestinationDeliveryFailures", "TriggerFunction"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "OnFailureQueue"),
        ("AWS/States", "ExecutionsFailed", "Orchestration"),
        ("AWS/States", "ExecutionsTimedOut", "Orchestration"),
        ("AWS/States", "ExecutionThrottled", "Orchestration"),
    }
    # The dimension that names a resource, by namespace, and the resource's type.
    NAMES = {
        "AWS/ApiGateway": ("ApiId", "AWS::ApiGatewayV2::Api"),
        "AWS/Lambda": ("FunctionName", "AWS::Lambda::Function"),
        "AWS/SQS": ("QueueName", "AWS::SQS::Queue"),
        "AWS/States": ("StateMachineArn", "AWS::StepFunctions::StateMachine"),
        "Orchestration": ("FunctionName", "AWS::Lambda::Function"),
    }

    def resource(self, template, namespace, dimensions):
        """The logical id of the resource that a metric is of."""
        dimension, kind = self.NAMES[namespace]
        logical_id = dimensions[dimension].removesuffix(".QueueName")
        self.assertEqual(template["Resources"][logical_id]["Type"], kind)
        return logical_id

    def test_each_alarm_is_of_a_resource_that_exists_and_tells_the_topic(self):
        template = rendered()
        alarms = of_type(template, "AWS::CloudWatch::Alarm")
        watched = set()
        for name, alarm in alarms.items():
            dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
            watched.add((alarm["Namespace"], alarm["MetricName"], self.resource(template, alarm["Namespace"], dimensions)))
            self.assertEqual((alarm["AlarmActions"], alarm["OKActions"]), (["AlarmTopic"], ["AlarmTopic"]), name)
            self.assertEqual(alarm["TreatMissingData"], "notBreaching", name)
            self.assertEqual(alarm["ComparisonOperator"], "GreaterThanThreshold", name)
            self.assertTrue(alarm["AlarmDescription"], name)
        self.assertEqual(watched, self.EXPECTED)
        self.assertEqual(len(alarms), len(watched))
        # Latency is that of POST: a GET may hold its answer for 20 seconds.
        latency = {d["Name"]: d["Value"] for d in alarms["ApiLatencyAlarm"]["Dimensions"]}
        routes = {route["RouteKey"] for route in of_type(template, "AWS::ApiGatewayV2::Route").values()}
        self.assertIn(f"{latency['Method']} {latency['Resource']}", routes)
        self.assertEqual(latency["Stage"], "ApiStage")
        self.assertTrue(of_type(template, "AWS::ApiGatewayV2::Stage")["ApiStage"]["RouteSettings"]["POST /trigger-workflow"]["DetailedMetricsEnabled"])

    def test_each_alarm_has_an_entry_in_the_runbook(self):
        runbook = (PROJECT / "docs/operations.md").read_text()
        for name in of_type(rendered(), "AWS::CloudWatch::Alarm"):
            self.assertIn(f"`{name}`", runbook)

    def test_the_topic_is_encrypted_and_mails_whom_the_parameter_names(self):
        template = rendered()
        self.assertEqual(of_type(template, "AWS::SNS::Topic")["AlarmTopic"]["KmsMasterKeyId"], "Key")
        self.assertEqual(of_type(template, "AWS::SNS::Subscription"), {})
        [subscription] = of_type(rendered(AlarmEmail="a@b.example"), "AWS::SNS::Subscription").values()
        self.assertEqual(subscription, {"TopicArn": "AlarmTopic", "Protocol": "email", "Endpoint": "a@b.example"})

    def test_the_dashboard_has_a_row_for_each_hop_and_every_metric_of_ours(self):
        template = rendered()
        [dashboard] = of_type(template, "AWS::CloudWatch::Dashboard").values()
        widgets = json.loads(dashboard["DashboardBody"])["widgets"]
        rows, shown, hops = {}, set(), set()
        for widget in widgets:
            rows.setdefault(widget["y"], []).append((widget["x"], widget["width"]))
            previous = []
            for metric in widget["properties"]["metrics"]:
                *metric, last = metric
                options = last if isinstance(last, dict) else None
                metric = metric if options else [*metric, last]
                if metric == ["..."]:
                    metric = previous
                metric = [previous[i] if part == "." else part for i, part in enumerate(metric)]
                previous = metric
                namespace, name, *dimensions = metric
                pairs = dict(zip(dimensions[::2], dimensions[1::2]))
                hops.add(self.resource(template, namespace, pairs))
                shown.add((namespace, name))
        self.assertEqual(hops, {"HttpApi", *FUNCTIONS, "OnFailureQueue", "Orchestration"})
        self.assertEqual(len(rows), len(hops))
        self.assertTrue(all(row == [(0, 8), (8, 8), (16, 8)] for row in rows.values()), rows)
        source = (PROJECT / "functions/shared/src/metrics.rs").read_text()
        ours = re.search(r"pub enum Metric \{(.*?)\n\}", source, re.DOTALL).group(1)
        names = set(re.findall(r"^    (\w+),$", ours, re.MULTILINE))
        self.assertEqual({name for namespace, name in shown if namespace == "Orchestration"}, names)


if __name__ == "__main__":
    unittest.main()
