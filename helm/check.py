"""Whether the chart is right: `check.py FOLDER`.

What is made from it must be fresh. Each of helm/cases is linted and rendered with the real Helm SDK for several versions of Kubernetes, and each object is
judged by that version's schema and by our own rules. helm/cases/refused.yaml must be refused. What was rendered is left in FOLDER, and each
container's arguments, environment and configuration in FOLDER/containers.json, for tests/kubernetes.rs.
"""

import json
import pathlib
import re
import shutil
import sys

import helm_python
import jsonschema
import kubernetes_validate
import yaml

from chart import CASES, CHART, COPIES, HELM, NAMESPACE, ROOT, VERSIONS, Chart, commented, made, merged, properties, stale, values_of


class Findings:
    def __init__(self):
        self.all = []

    def expect(self, holds, text):
        if not holds:
            self.all.append(text)


def check_fresh(findings):
    files = made()
    for path, text in files.items():
        same = path.is_file() and path.read_text() == text
        findings.expect(same, f"{path.relative_to(ROOT)} is not what the chart makes: run scripts/chart")
    for path in stale(files):
        findings.expect(False, f"{path.relative_to(ROOT)} is made by nobody: run scripts/chart")


def check_described(findings):
    """Every value has a description, a default or a place in the schema, and nothing else is let in."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    known = dict(properties(schema, schema))
    for path, node in known.items():
        findings.expect(node.get("description"), f"values.schema.json does not describe {path}")
    comments = commented((CHART / "values.yaml").read_text())
    for path in comments:
        findings.expect(path in known, f"values.schema.json does not know {path}")
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    # `global` is Helm's.
    for key in schema["properties"].keys() - {"global"}:
        findings.expect(key in defaults, f"values.yaml has no {key}")
        findings.expect(key in comments, f"values.yaml does not explain {key}")
    for key, node in known.items():
        # What is open is Kubernetes's own, a map of names, or a section of the configuration, which the program judges.
        if node.get("properties") and not key.startswith("config."):
            findings.expect(node.get("additionalProperties") is False, f"values.schema.json lets anything into {key}")


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def closed(required, **fields):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": fields}


def monitor(endpoints):
    endpoint = closed(
        ["port", "path"],
        port={"type": "string"},
        path={"const": "/metrics"},
        interval={"pattern": "^[0-9]+[sm]$"},
        scrapeTimeout={"pattern": "^[0-9]+[sm]$"},
        scheme={"const": "https"},
        tlsConfig={"type": "object"},
    )
    return closed(
        ["selector", endpoints],
        selector=closed(["matchLabels"], matchLabels=TEXTS),
        namespaceSelector=closed(["matchNames"], matchNames={"type": "array", "items": {"type": "string"}}),
        **{endpoints: {"type": "array", "minItems": 1, "items": endpoint}},
    )


# What is used of kinds that are not Kubernetes's own, as their operators' definitions have it.
FOREIGN = {
    "ServiceMonitor": monitor("endpoints"),
    "PodMonitor": monitor("podMetricsEndpoints"),
    "PrometheusRule": closed(
        ["groups"],
        groups={
            "type": "array",
            "items": closed(
                ["name", "rules"],
                name={"type": "string"},
                interval={"type": "string"},
                rules={
                    "type": "array",
                    "items": closed(
                        ["expr"],
                        alert={"type": "string"},
                        record={"type": "string"},
                        expr={"type": ["string", "integer"]},
                        labels=TEXTS,
                        annotations=TEXTS,
                        keep_firing_for={"type": "string"},
                        **{"for": {"type": "string"}},
                    ),
                },
            ),
        },
    ),
    "HTTPRoute": closed(
        ["parentRefs", "rules"],
        parentRefs={"type": "array", "minItems": 1, "items": {"type": "object", "required": ["name"]}},
        hostnames={"type": "array", "items": {"type": "string"}},
        rules={
            "type": "array",
            "items": closed(
                ["matches", "backendRefs"],
                matches={"type": "array", "items": closed(["path"], path=closed(["type", "value"], type={"const": "PathPrefix"}, value={"type": "string"}))},
                backendRefs={"type": "array", "items": closed(["name", "port"], name={"type": "string"}, port={"type": "integer"})},
            ),
        },
    ),
}


def check_object(it, version, where, findings):
    """By the schema of its kind; strictly, so that a field that there is not is found."""
    try:
        if it["kind"] in FOREIGN:
            jsonschema.validate(it["spec"], FOREIGN[it["kind"]])
        else:
            kubernetes_validate.validate(it, version, strict=True)
    except jsonschema.ValidationError as error:
        findings.expect(False, f"{where}: {'.'.join(map(str, error.path))}: {error.message}")
    name = it["metadata"]["name"]
    findings.expect(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name), f"{where}: the name {name!r}")
    findings.expect(it["metadata"].get("namespace") == NAMESPACE, f"{where}: no namespace")
    for key, value in it["metadata"].get("labels", {}).items():
        findings.expect(re.fullmatch(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", value), f"{where}: the label {key}: {value!r}")
    findings.expect(it["kind"] != "Secret", f"{where}: secrets are not ours to make")


def pod_of(it):
    spec = it.get("spec", {})
    return {
        "Pod": lambda: spec,
        "Deployment": lambda: spec["template"]["spec"],
        "Job": lambda: spec["template"]["spec"],
        "CronJob": lambda: spec["jobTemplate"]["spec"]["template"]["spec"],
    }.get(it["kind"], lambda: None)()


def check_pod(pod, where, findings):
    """The restricted profile, and what lint of manifests does not ask."""
    findings.expect(pod["automountServiceAccountToken"] is False, f"{where}: a token is mounted")
    findings.expect(pod["securityContext"]["runAsNonRoot"] is True, f"{where}: may run as root")
    findings.expect(pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, f"{where}: seccomp")
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        findings.expect(forbidden not in pod, f"{where}: {forbidden}")
    volumes = {volume["name"] for volume in pod["volumes"]}
    findings.expect(len(volumes) == len(pod["volumes"]), f"{where}: two volumes of one name")
    used = set()
    for container in pod.get("initContainers", []) + pod["containers"]:
        at = f"{where}: {container['name']}"
        security = container["securityContext"]
        findings.expect(security["readOnlyRootFilesystem"] is True, f"{at}: its root can be written to")
        findings.expect(security["allowPrivilegeEscalation"] is False, f"{at}: escalation")
        findings.expect(security["capabilities"] == {"drop": ["ALL"]}, f"{at}: capabilities")
        findings.expect(set(container["resources"]) >= {"requests", "limits"}, f"{at}: resources")
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        findings.expect(mounts <= volumes, f"{at}: mounts {mounts - volumes}, which are no volumes")
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        findings.expect(len(set(paths)) == len(paths), f"{at}: two mounts at one path")
        used |= mounts
    findings.expect(used == volumes, f"{where}: nobody mounts {volumes - used}")


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def check_together(objects, where, findings):
    """What must fit between objects."""
    by_kind = {}
    for it in objects:
        by_kind.setdefault(it["kind"], []).append(it)
    findings.expect(len({(it["kind"], it["metadata"]["name"]) for it in objects}) == len(objects), f"{where}: a name twice")
    deployments = by_kind.get("Deployment", [])
    for deployment in deployments:
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        findings.expect(selects(deployment["spec"]["selector"]["matchLabels"], labels), f"{where}: selector")
        for service in by_kind.get("Service", []):
            findings.expect(selects(service["spec"]["selector"], labels), f"{where}: the service selects nobody")
        for budget in by_kind.get("PodDisruptionBudget", []):
            findings.expect(selects(budget["spec"]["selector"]["matchLabels"], labels), f"{where}: the budget selects nobody")
        for one in by_kind.get("PodMonitor", []):
            findings.expect(selects(one["spec"]["selector"]["matchLabels"], labels), f"{where}: the monitor selects nobody")
    for one in by_kind.get("ServiceMonitor", []):
        labels = by_kind["Service"][0]["metadata"]["labels"]
        findings.expect(selects(one["spec"]["selector"]["matchLabels"], labels), f"{where}: the monitor selects nobody")
    for it in objects:
        # Neither the tests nor the adoption may be called as if they served.
        labels = it["metadata"].get("labels", {})
        for service in by_kind.get("Service", []):
            findings.expect(it["kind"] != "Pod" or not selects(service["spec"]["selector"], labels), f"{where}: the test is served")
    for it in by_kind.get("ConfigMap", []):
        # The apiserver takes a megabyte.
        findings.expect(len(json.dumps(it)) < 900_000, f"{where}: {it['metadata']['name']} is too large")
    maps = {it["metadata"]["name"] for it in by_kind.get("ConfigMap", [])}
    for it in objects:
        if pod := pod_of(it):
            names = {volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "config"}
            findings.expect(names <= maps, f"{where}: {it['kind']} mounts {names - maps}")
            if "serviceAccountName" in pod and by_kind.get("ServiceAccount"):
                findings.expect(pod["serviceAccountName"] == by_kind["ServiceAccount"][0]["metadata"]["name"], f"{where}: account")
    names = {it["metadata"]["name"].removesuffix("-exporter") for it in deployments}
    runs = [one["args"] for one in containers(objects) if one["args"] == ["serve"] or one["args"][0] == "run"]
    findings.expect(len(runs) == 1 and len(names) <= 1, f"{where}: {runs}, of which there must be one")


def containers(objects):
    """What each container is started with: for the program itself to judge."""
    config = next(it["data"]["course-gc.yaml"] for it in objects if it["kind"] == "ConfigMap" and "course-gc.yaml" in it["data"])
    for it in objects:
        if pod := pod_of(it):
            for container in pod.get("initContainers", []) + pod["containers"]:
                # What comes from a Secret is for whoever tries it to make up.
                env = {one["name"]: one.get("value") for one in container["env"]}
                grace = pod["terminationGracePeriodSeconds"]
                stop = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                yield {"args": container["args"], "env": env, "config": config, "grace": grace, "pre_stop": stop}


def check_copied(objects, where, findings):
    """What the chart copies comes out as it went in: every alert and every dashboard."""
    rules = [group for it in objects if it["kind"] == "PrometheusRule" for group in it["spec"]["groups"]]
    wanted = [group for path in sorted(ROOT.glob(COPIES["alerts"])) for group in yaml.safe_load(path.read_text())["groups"]]
    findings.expect(rules == wanted, f"{where}: the alerts are not those of {COPIES['alerts']}")
    boards = {name: json.loads(text) for it in objects if it["kind"] == "ConfigMap" for name, text in it["data"].items() if name.endswith(".json")}
    wanted = {path.name: json.loads(path.read_text()) for path in ROOT.glob(COPIES["dashboards"])}
    findings.expect(boards == wanted, f"{where}: the dashboards are not those of {COPIES['dashboards']}")


def check_matrix(chart, folder, findings):
    started = {}
    for case in CASES:
        values = values_of(case)
        lint = helm_python.lint(str(CHART), values, strict=True, kube_version=VERSIONS[-1])
        for message in lint["messages"]:
            # An icon is a picture in a catalogue.
            findings.expect("icon is recommended" in message["error"], f"{case}: lint: {message}")
        for version in VERSIONS:
            where = f"{case} on {version}"
            templates = chart.render(values, version)
            objects = [it for _, it in templates]
            for template, it in templates:
                check_object(it, version, f"{where}: {template}", findings)
                if pod := pod_of(it):
                    check_pod(pod, f"{where}: {template}", findings)
            check_together(objects, where, findings)
            if values.get("metrics", {}).get("dashboards", {}).get("enabled"):
                check_copied(objects, where, findings)
            slept = [one["pre_stop"] for one in containers(objects) if one["args"] == ["serve"]]
            findings.expect(all(bool(it) == (version >= "1.30") for it in slept), f"{where}: preStop {slept}")
            rendered = folder / case / version
            rendered.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump_all(objects, sort_keys=False)
            (rendered / "all.yaml").write_text(text)
        started[case] = list(containers(objects))
    (folder / "containers.json").write_text(json.dumps(started, indent=1))


def check_refused(chart, findings):
    minimal = values_of("minimal")
    refused = yaml.safe_load((HELM / "cases" / "refused.yaml").read_text())
    for row in refused:
        try:
            chart.render(merged(minimal, row["values"]))
            findings.expect(False, f"not refused: {row['why']}")
        except helm_python.HelmError as error:
            findings.expect(row["says"] in str(error), f"{row['why']}: refused with: {error}")
    return len(refused)


def check(folder):
    findings = Findings()
    chart = Chart()
    folder = pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    check_fresh(findings)
    check_described(findings)
    check_matrix(chart, folder, findings)
    count = check_refused(chart, findings)
    print(f"{len(CASES)} cases on {len(VERSIONS)} versions of Kubernetes, {count} refused, {len(findings.all)} findings")
    for finding in findings.all:
        print(finding, file=sys.stderr)
    return 1 if findings.all else 0


if __name__ == "__main__":
    sys.exit(check(sys.argv[1]))
