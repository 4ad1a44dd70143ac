"""What CloudFormation makes of template.yaml: SAM's transform, carried out here.

usage: transform.py TEMPLATE [NAME=VALUE ...]
Prints the transformed template as JSON. Runs in the environment of the SAM CLI, which brings the transform.
"""
import json
import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

from samcli.yamlhelper import yaml_parse  # noqa: E402, after the region is set
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader  # noqa: E402
from samtranslator.translator.transform import transform  # noqa: E402


class NoManagedPolicies:
    """The template names its managed policies by their ARNs, so that none has to be looked up in an account."""

    def list_policies(self, **_):
        raise AssertionError("a managed policy is named without its ARN")

    get_paginator = list_policies


def transformed(path, parameters):
    """The transformed template. Local code and definitions are given the addresses that `sam package` would."""
    with open(path, encoding="utf-8") as file:
        template = yaml_parse(file.read())
    for logical_id, resource in template["Resources"].items():
        for name in ("CodeUri", "DefinitionUri"):
            uri = resource["Properties"].get(name) if isinstance(resource.get("Properties"), dict) else None
            if isinstance(uri, str) and not uri.startswith("s3://"):
                resource["Properties"][name] = f"s3://artifacts/{logical_id}"
    return transform(template, parameters, ManagedPolicyLoader(NoManagedPolicies()))


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[2:])
    json.dump(transformed(sys.argv[1], given), sys.stdout, indent=2)
