"""examples/production: its flags exist, its probes answer, and what belongs together agrees."""

from __future__ import annotations

import configparser
import json
import pkgutil
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from gothreads.cli.main import COMMANDS
from gothreads.cli.parser import parse
from gothreads.cli.serve_file import read_file
from tests.support.command_line import command
from tests.support.keys import Keys
from tests.support.modules import ROOT
from tests.support.server import running
from tests.support.waiting import wait_until

EXAMPLE = ROOT / "examples" / "production"


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """The manifest's objects, by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((EXAMPLE / "kubernetes.yaml").read_text())}


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (only,) = manifest["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_a_pods_server_answers_its_probes_until_it_is_stopped(manifest: dict[str, Any], calls: Path,
                                                              tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.txt")
    key = keys.new("ci", "call/*")
    pod = container(manifest)
    text = " ".join(pod["args"][1:])
    for ours, here in {"/etc/app/keys.txt": str(keys.path), "/app.wasm": str(calls), "0.0.0.0:9100": "127.0.0.1:0",
                       "0.0.0.0": "127.0.0.1", "--drain-delay=5": "--drain-delay=300"}.items():
        assert ours in text
        text = text.replace(ours, here)
    with running(*text.split()) as server:
        paths = {name: probe["httpGet"]["path"] for name, probe in pod.items() if name.endswith("Probe")}
        assert sorted(paths) == ["livenessProbe", "readinessProbe", "startupProbe"]
        for path in paths.values():
            assert server.client.get(path).status_code == 200
        assert server.client.post("/api/call/add", json={"args": [2, 3]}, headers=key).json() == {"result": 5}
        assert server.client.post("/api/call/add", json={"args": [2, 3]}).status_code == 401
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.client.get(paths["readinessProbe"]).status_code == 503)
        assert server.client.get(paths["livenessProbe"]).status_code == 200
        assert server.client.post("/api/call/add", json={"args": [2, 3]}, headers=key).json() == {"result": 5}
        server.process.send_signal(signal.SIGTERM)  # no need to wait for --drain-delay
        code, said = server.end()
    assert code == 0
    assert json.loads(said.splitlines()[-1])["message"] == "stopped by SIGTERM"


def test_the_manifest_agrees_with_itself_and_the_image(manifest: dict[str, Any]) -> None:
    deployment, pod = manifest["Deployment"]["spec"], manifest["Deployment"]["spec"]["template"]["spec"]
    arguments = parse(COMMANDS, container(manifest)["args"])
    assert pod["terminationGracePeriodSeconds"] > arguments.drain_delay + arguments.drain
    ports = {port["name"]: port["containerPort"] for port in container(manifest)["ports"]}
    assert ports == {"http": arguments.port, "metrics": int(arguments.metrics_address.rpartition(":")[2])}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container(manifest)[probe]["httpGet"]["port"] == "http"
    (service_port,) = manifest["Service"]["spec"]["ports"]
    assert service_port["targetPort"] == "http"
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == deployment["selector"]["matchLabels"] == manifest["Service"]["spec"]["selector"]
    assert labels == manifest["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    (volume,), (mount,) = pod["volumes"], container(manifest)["volumeMounts"]
    assert volume["name"] == mount["name"]
    assert arguments.api_keys.startswith(mount["mountPath"] + "/")
    assert container(manifest)["securityContext"]["readOnlyRootFilesystem"] is True
    image = (EXAMPLE / "Dockerfile").read_text()
    assert f"useradd --uid {pod['securityContext']['runAsUser']} " in image
    assert 'ENTRYPOINT ["gothreads"]' in image  # args come after it
    assert f"/app.wasm {arguments.module}\n" in image
    (started,) = re.findall(r"^CMD (.*)$", image, re.MULTILINE)
    assert parse(COMMANDS, json.loads(started)).module == arguments.module


#: Fields of KubeRay's objects (ray.io/v1), by where they are: docs/reference/api.md there.
KUBERAY = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"serveConfigV2", "rayClusterConfig", "serveService", "upgradeStrategy", "excludeHeadPodFromServeSvc"},
    "spec.rayClusterConfig": {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "gcsFaultToleranceOptions",
                              "headGroupSpec", "workerGroupSpecs", "suspend", "managedBy", "headServiceAnnotations"},
    "spec.rayClusterConfig.headGroupSpec": {"template", "headService", "enableIngress", "rayStartParams",
                                            "serviceType"},
    "spec.rayClusterConfig.workerGroupSpecs.0": {"groupName", "replicas", "minReplicas", "maxReplicas", "template",
                                                 "idleTimeoutSeconds", "rayStartParams", "scaleStrategy", "numOfHosts"},
}


@pytest.fixture(scope="module")
def ray_service() -> dict[str, Any]:
    return dict(yaml.safe_load((EXAMPLE / "rayservice.yaml").read_text()))


def test_the_ray_service_has_fields_of_kuberay(ray_service: dict[str, Any]) -> None:
    assert (ray_service["apiVersion"], ray_service["kind"]) == ("ray.io/v1", "RayService")
    for place, known in KUBERAY.items():
        found: Any = ray_service
        for name in filter(None, place.split(".")):
            found = found[int(name)] if name.isdigit() else found[name]
        assert found.keys() <= known
    cluster = ray_service["spec"]["rayClusterConfig"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    (head,), (worker,) = (group["template"]["spec"]["containers"] for group in (cluster["headGroupSpec"], workers))
    assert (head["image"], head["env"]) == (worker["image"], worker["env"])
    for group in (cluster["headGroupSpec"], workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.long
def test_ray_takes_what_the_ray_service_gives_it(ray_service: dict[str, Any], calls: Path, tmp_path: Path) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    pytest.importorskip("fsspec")
    config = schema.ServeDeploySchema.model_validate(yaml.safe_load(ray_service["spec"]["serveConfigV2"]))
    (application,) = config.applications
    (deployment,) = application.deployments
    module, _, name = application.import_path.partition(":")
    shutil.copy(calls, tmp_path / "app.wasm")
    source = (EXAMPLE / f"{module}.py").read_text().replace("/app.wasm", str(tmp_path / "app.wasm"))
    made: dict[str, Any] = {}
    exec(source, made)
    assert made[name]._bound_deployment.name == deployment.name
    container = ray_service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    callback = {each["name"]: each["value"] for each in container["env"]}["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    assert len(pkgutil.resolve_name(callback)()) == 1


def test_the_page_shows_the_image() -> None:
    assert (EXAMPLE / "Dockerfile").read_text() in (ROOT / "docs" / "containers.md").read_text()


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(EXAMPLE / name)
    return parser


def test_the_service_serves_what_its_file_says(calls: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "gothreads.toml", tmp_path)
    shutil.copy(calls, tmp_path / "app.wasm")
    Keys(tmp_path / "keys.txt").new("ci")
    file = tmp_path / "gothreads.toml"
    code, out, err = command("serve", "--check", "-c", file)
    assert (code, out.split(), err) == (0, ["app", "/", str(tmp_path / "app.wasm")], "")
    service = unit("app.service")["Service"]
    program, *started = shlex.split(service["ExecStart"])
    assert Path(program).name == "gothreads"
    arguments = parse(COMMANDS, started)
    assert f"# {arguments.config}\n" in file.read_text()
    assert float(service["TimeoutStopSec"]) > read_file(file).server["drain"]
    assert service["Environment"].endswith(f"/{service['CacheDirectory']}")
    assert unit("app.service")["Unit"]["Requires"] == "app.socket"
    assert unit("app.socket")["Socket"]["ListenStream"] == "8080"
