"""What is made from the chart: its README.md and the descriptions in values.schema.json from the comments in values.yaml, its copies of the dashboards
and alerts, and the plain manifests in helm/manifests. `scripts/chart` runs this; check.py makes sure that all of it is fresh.
"""

import copy
import json
import pathlib
import re

import helm_python
import yaml
from helm_python import _native

HELM = pathlib.Path(__file__).resolve().parent
ROOT = HELM.parent
CHART = HELM / "course-gc"
NAMESPACE = "campus"
# Each case, and what lies under it: values beneath helm/cases, or the first that a page shows.
CASES = {
    "documented": ["docs/kubernetes.md"],
    "minimal": ["minimal"],
    "campus": ["campus"],
    "everything": ["everything"],
    "one-node": ["campus", "one-node"],
    "cronjob": ["campus", "cronjob"],
    "cronjob-watched": ["campus", "cronjob", "watched"],
    "cronjob-minimal": ["cronjob-minimal"],
}
# The oldest that the chart takes, those around the version that brought a field it uses, and the newest that schemas are at hand for.
VERSIONS = ["1.27.0", "1.29.0", "1.30.0", "1.33.0", "1.37.0"]
# The plain manifests: the default rendering of each mode.
MANIFESTS = {"deployment": "campus", "cronjob": "cronjob"}
# Where the chart's copies come from: a chart can read nothing outside itself.
COPIES = {"dashboards": "dashboards/*.json", "alerts": "alerts/*.yaml"}


def merged(under, over):
    """`over` on `under`, as Helm lays values; null takes a key away."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    both = copy.deepcopy(under)
    for key, value in over.items():
        if value is None and key in both:
            del both[key]
        else:
            both[key] = merged(both.get(key), value)
    return both


def values_of(case):
    values = {}
    for layer in CASES[case]:
        if layer.endswith(".md"):
            text = (ROOT / layer).read_text().split("```yaml\n")[1].split("```")[0]
        else:
            text = (HELM / "cases" / f"{layer}.yaml").read_text()
        values = merged(values, yaml.safe_load(text))
    return values


class Chart:
    def __init__(self):
        self.chart = helm_python.Chart.load(CHART)

    def render(self, values, version=VERSIONS[-1]):
        """Each object, by the template that it comes from."""
        self.chart.validate_schema(values)
        # As the SDK's `render`, which has no argument for the version.
        options = {"name": "course-gc", "namespace": NAMESPACE, "kube_version": f"v{version}"}
        texts = json.loads(
            _native.call_string("helm_render", self.chart._raw(), json.dumps(values), json.dumps(options))
        )
        objects = []
        for path, text in sorted(texts.items()):
            if path.endswith((".yaml", ".yml")):
                objects += [(pathlib.PurePath(path).stem, it) for it in yaml.safe_load_all(text) if it]
        return objects


def commented(text):
    """Each key of values.yaml by its path, with the comment above it, and its default where it is a leaf of the file."""
    found, path, comment = {}, [], []
    for line in text.splitlines():
        if match := re.match(r"^( *)# ?(.*)$", line):
            comment.append(match[2])
        elif match := re.match(r"^( *)([A-Za-z][\w.]*):(.*)$", line):
            depth = len(match[1]) // 2
            path = path[:depth] + [match[2]]
            if comment:
                found[".".join(path)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def default(values, path):
    for key in path.split("."):
        values = values[key]
    return values


def properties(schema, node, path=()):
    """Each property of the schema with its path; what a definition describes is found there."""
    if "$ref" in node:
        node = {**schema["definitions"][node["$ref"].rsplit("/", 1)[1]], **node}
    for key, inner in node.get("properties", {}).items():
        yield ".".join((*path, key)), inner
        yield from properties(schema, inner, (*path, key))
    for inner in (node.get("items"), node.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from properties(schema, inner, (*path, "*"))


def config_schema():
    """What the program says of its configuration, but for what comes from Secrets, or is another's in a pod."""
    schema = json.loads((ROOT / "docs" / "config.schema.json").read_text())
    del schema["$schema"], schema["title"]
    lenient(schema)
    # Here a mistake is cheap, and the name stays for ever.
    schema["properties"]["installation"]["pattern"] = "^[a-z0-9-]{1,40}$"
    # Probes come from outside the pod.
    schema["properties"]["http"]["properties"]["listen"]["pattern"] = r"^(0\.0\.0\.0|\[::\]):[0-9]{4,5}$"
    return schema


def lenient(node):
    """Files with secrets are named by `secrets`, not here."""
    if isinstance(node, dict):
        if isinstance(node.get("required"), list):
            node["required"] = [name for name in node["required"] if not name.endswith("file")]
        for inner in node.values():
            lenient(inner)
    elif isinstance(node, list):
        for inner in node:
            lenient(inner)


def schema_text(comments):
    """The schema with the comments of values.yaml as descriptions, and the program's own of its configuration."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["properties"]["config"] = config_schema()
    for path, node in properties(schema, schema):
        if path in comments:
            described = {"description": comments[path], **{k: v for k, v in node.items() if k != "description"}}
            node.clear()
            node.update(described)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def readme_text(comments):
    """The chart's README: one row a value."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    rows = []
    for path, comment in comments.items():
        value = default(values, path)
        is_section = any(other.startswith(f"{path}.") for other in comments)
        shown = "" if is_section else f"`{json.dumps(value, ensure_ascii=False)}`"
        rows.append(f"| `{path}` | {shown} | {comment} |")
    return f"""<!-- Made by scripts/chart from values.yaml. -->
# The chart {about["name"]}

{about["description"]}. How to install it, and how to decide, is told in
[docs/kubernetes.md](../../docs/kubernetes.md); this is what can be set. A value that is not listed is refused.

Version {about["version"]}, for course-gc {about["appVersion"]}, on Kubernetes {about["kubeVersion"].removesuffix("-0")}.

| value | default | what it is |
| --- | --- | --- |
""" + "\n".join(rows) + "\n"


def manifests(chart):
    """The plain manifests: each file's path beneath helm/manifests, and its text."""
    files = {}
    for name, case in MANIFESTS.items():
        names = []
        for template, it in chart.render(values_of(case)):
            if "helm.sh/hook" in it["metadata"].get("annotations", {}):
                continue
            plain(it)
            # Whoever applies them says where; and a patch that names no namespace finds none that has one.
            del it["metadata"]["namespace"]
            files[f"{name}/{template}.yaml"] = yaml.safe_dump(it, sort_keys=False, width=140, allow_unicode=True)
            names.append(f"{template}.yaml")
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": sorted(names),
        }
        files[f"{name}/kustomization.yaml"] = (
            "# Made by scripts/chart; docs/kubernetes.md tells how to lay your own values over it.\n"
            + yaml.safe_dump(kustomization, sort_keys=False)
        )
    return files


def plain(node):
    """Without what only Helm means."""
    if isinstance(node, dict):
        for key in ("helm.sh/chart", "app.kubernetes.io/managed-by", "checksum/config", "helm.sh/resource-policy"):
            node.pop(key, None)
        for inner in node.values():
            plain(inner)
        if node.get("annotations") == {}:
            del node["annotations"]
    elif isinstance(node, list):
        for inner in node:
            plain(inner)


def copies():
    files = {}
    for folder, pattern in COPIES.items():
        for path in sorted(ROOT.glob(pattern)):
            files[f"{folder}/{path.name}"] = path.read_text()
    return files


def made():
    """Every file that is made, with its text."""
    comments = commented((CHART / "values.yaml").read_text())
    files = {CHART / "values.schema.json": schema_text(comments), CHART / "README.md": readme_text(comments)}
    files |= {CHART / "files" / name: text for name, text in copies().items()}
    files |= {HELM / "manifests" / name: text for name, text in manifests(Chart()).items()}
    return files


def stale(files):
    """Files that lie where only made ones may, and are none."""
    there = [path for folder in (CHART / "files", HELM / "manifests") for path in folder.rglob("*") if path.is_file()]
    return [path for path in there if path not in files]


def write():
    # The manifests are rendered with the copies and the schema that are there, so those come first.
    for path, text in copies().items():
        put(CHART / "files" / path, text)
    put(CHART / "values.schema.json", schema_text(commented((CHART / "values.yaml").read_text())))
    files = made()
    for path, text in files.items():
        put(path, text)
    for path in stale(files):
        path.unlink()


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    write()
