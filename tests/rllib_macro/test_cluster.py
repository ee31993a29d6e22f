"""Clusters: what a lost machine costs, on several Ray nodes of one computer, and manifests that fit the published schemas."""
import importlib
import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

from rllib_macro import sweep, train, tuning
from rllib_macro.run import Run
from rllib_macro.terminal import CONFIGS, checked, config_file
from tests.rllib_macro.tiny import TINY, tiny

pytestmark = pytest.mark.xdist_group("ray")

ROOT = CONFIGS.parent
STORE = {"object_store_memory": 100 * 2**20}
QUICK = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}  # a dead node is noticed


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster whose head has no CPUs; this process is connected to it. Add nodes with `node`."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "gcs_server_port": free_port(),
                                                          "_system_config": QUICK, **STORE})
    ray.init(address=found.address, log_to_driver=False, logging_level="CRITICAL")
    yield found
    ray.shutdown()
    found.shutdown()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def node(cluster):
    """A new node with one CPU."""
    return cluster.add_node(num_cpus=1, **STORE)


def lose(cluster, lost):
    """Kill a node's processes, as a power cut does."""
    cluster.remove_node(lost, allow_graceful=False)


def whereabouts(algo):
    return algo.env_runner_group.foreach_env_runner(_node, local_env_runner=False)


def _node(runner):
    return ray.get_runtime_context().get_node_id()


def economic(row):
    return {name: value for name, value in row.items() if name.startswith(("reward/", "measure/"))}


# --- losses -----------------------------------------------------------------------------------------------------------


def test_training_goes_on_when_the_node_of_its_env_runner_is_lost(cluster):
    config = tiny("stop.iterations=6")
    with train.algorithm(config) as algo:
        undisturbed = [economic(train.iterate(algo, config, 0.0)) for _ in range(6)]
    first = node(cluster)
    config = tiny("stop.iterations=6", "resources.num_env_runners=1")
    with train.algorithm(config) as algo:
        rows = [economic(train.iterate(algo, config, 0.0)) for _ in range(3)]
        assert whereabouts(algo) == [first.node_id]
        second = node(cluster)
        lose(cluster, first)
        rows += [economic(train.iterate(algo, config, 0.0)) for _ in range(3)]
        assert whereabouts(algo) == [second.node_id]
        assert algo.iteration == 6
    for row, expected in zip(rows, undisturbed):  # this economy has no shocks, and what agents choose depends on seed and iteration alone
        assert row == pytest.approx(expected)


@pytest.mark.slow
def test_training_goes_on_with_the_env_runner_that_is_left(cluster):
    homes = [node(cluster), node(cluster)]
    config = tiny("stop.iterations=40", "resources.num_env_runners=2")
    with train.algorithm(config) as algo:
        assert sorted(whereabouts(algo)) == sorted(home.node_id for home in homes)
        both = train.iterate(algo, config, 0.0)
        lose(cluster, homes[0])
        rows = [train.iterate(algo, config, 0.0) for _ in range(4)]
        assert [row["env_steps"] for row in rows][-1] == both["env_steps"] / 2
        assert np.isfinite([row["reward/firm"] for row in rows]).all()


@pytest.mark.slow
def test_a_trial_whose_node_is_lost_goes_on_elsewhere_as_if_nothing_had_happened(cluster, tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "one.yaml").write_text("config: tiny.yaml\nvary: {policies.firm.clip: [0.1]}\nmetric: reward/firm\nlast: 1")
    found = sweep.load(tmp_path / "one.yaml", ["stop.iterations=60", "checkpoint.every=5"])
    homes = [node(cluster)]

    def watch(point, row, ended):
        if row.get("iteration") == 20 and len(homes) == 1:
            homes.append(node(cluster))
            lose(cluster, homes[0])

    results = tuning.start(found, tmp_path / "runs", watch)
    assert results.trials["ended"].tolist() == ["finished"]
    disturbed = Run.open(next(results.path.glob("000_*")))
    assert (disturbed.path / "result_superseded.json").is_file()  # some iterations were played twice
    monkeypatch.setattr(train, "finish", lambda run: run)
    undisturbed = train.train(disturbed.config, tmp_path / "undisturbed")
    weights, expected = disturbed.weights(), undisturbed.weights()
    assert all(weights[type_][name].equal(expected[type_][name]) for type_ in expected for name in expected[type_])
    assert disturbed.progress()["reward/firm"].tolist() == undisturbed.progress()["reward/firm"].tolist()


def test_without_any_env_runner_left_training_says_so(monkeypatch):
    from rllib_macro import algorithm

    class Group:
        def num_remote_env_runners(self):
            return 1

        def num_healthy_remote_workers(self):
            return 0

        def foreach_env_runner(self, *args, **kwargs):
            return []

    class Lost(algorithm.MacroPPO):
        env_runner_group, iteration, restore_env_runners = Group(), 0, lambda self, group: []
        config = algorithm.MacroPPOConfig()

        def __init__(self):
            pass

    monkeypatch.setattr(algorithm, "PATIENCE", -1)
    with pytest.raises(RuntimeError, match="no env runner answers any more; see their logs, add nodes"):
        Lost()._sample(None)


# --- jobs -------------------------------------------------------------------------------------------------------------


def no_dashboard():
    """Why this Ray cannot take jobs; None if it can."""
    try:
        importlib.import_module("ray.dashboard.optional_deps")
    except ImportError as missing:
        return f"jobs need all libraries of requirements.txt: {missing}"
    return None


@pytest.mark.slow
@pytest.mark.skipif(bool(no_dashboard()), reason=str(no_dashboard()))
def test_a_job_submitted_from_a_clean_clone_leaves_a_run_folder(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("a clone needs the repository, and this copy has no .git")
    trusted = [option for path in (ROOT, ROOT / ".git") for option in ("-c", f"safe.directory={path}")]
    subprocess.run(["git", *trusted, "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    head = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": True, "dashboard_port": free_port(),
                                                         "gcs_server_port": free_port(), **STORE})
    try:
        small = ["name=job", "replicas=2", "n_consumers=4", "n_firms=2", "horizon=3", "policies.consumer.agents_per_update=2", "windows={}",
                 "stop.iterations=3", "evaluation={replicas: 2, seeds: [1]}"]
        command = ["python", "-m", "rllib_macro", "train", "rbc_quick", *small, "--runs", str(tmp_path / "runs")]
        submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", f"http://{head.webui_url}"]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run([*submit, "--working-dir", ".", "--", "env", f"PATH={path}", *command], cwd=tmp_path / "clone",
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert str(tmp_path / "runs" / "job" / "report.html") in done.stdout
        assert Run.open(tmp_path / "runs" / "job").checkpoints() == [3]
    finally:
        head.shutdown()


# --- manifests --------------------------------------------------------------------------------------------------------

# Fields of ray.io/v1 as KubeRay 1.6.2 publishes them (its generated CRD reference), and of Kubernetes' pods as far as they are used here.
TEXT, WHOLE, REAL, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY = {"type": "object"}


def one_of(*values):
    return {"enum": list(values)}


def listed(entry):
    return {"type": "array", "items": entry}


def fields(table, *required):
    return {"type": "object", "properties": table, "required": list(required), "additionalProperties": False}


CONTAINER = fields({
    "name": TEXT, "image": TEXT, "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"), "command": listed(TEXT),
    "args": listed(TEXT), "workingDir": TEXT, "envFrom": listed(ANY),
    "env": listed(fields({"name": TEXT, "value": TEXT, "valueFrom": ANY}, "name")),
    "ports": listed(fields({"name": TEXT, "containerPort": WHOLE, "hostPort": WHOLE, "protocol": TEXT}, "containerPort")),
    "resources": fields({"requests": TEXTS, "limits": TEXTS, "claims": listed(ANY)}),
    "volumeMounts": listed(fields({"name": TEXT, "mountPath": TEXT, "subPath": TEXT, "readOnly": FLAG}, "name", "mountPath")),
    "lifecycle": ANY, "livenessProbe": ANY, "readinessProbe": ANY, "startupProbe": ANY, "securityContext": ANY,
}, "name", "image")
POD = fields({"metadata": ANY, "spec": fields({
    "containers": listed(CONTAINER), "initContainers": listed(CONTAINER), "nodeSelector": TEXTS, "tolerations": listed(ANY),
    "volumes": listed(fields({"name": TEXT, "persistentVolumeClaim": fields({"claimName": TEXT, "readOnly": FLAG}, "claimName"),
                              "nfs": ANY, "emptyDir": ANY, "configMap": ANY, "secret": ANY, "hostPath": ANY}, "name")),
    "affinity": ANY, "serviceAccountName": TEXT, "restartPolicy": TEXT, "imagePullSecrets": listed(ANY), "securityContext": ANY,
    "terminationGracePeriodSeconds": WHOLE,
}, "containers")}, "spec")
GROUP = {"template": POD, "resources": TEXTS, "labels": TEXTS, "rayStartParams": TEXTS}
CLUSTER = fields({
    "upgradeStrategy": fields({"type": one_of("Recreate", "None")}),
    "authOptions": fields({"enableK8sTokenAuth": FLAG, "secretName": TEXT, "mode": one_of("disabled", "token")}),
    "suspend": FLAG, "managedBy": TEXT, "headServiceAnnotations": TEXTS, "enableInTreeAutoscaling": FLAG, "rayVersion": TEXT,
    "autoscalerOptions": fields({
        "resources": ANY, "image": TEXT, "imagePullPolicy": TEXT, "securityContext": ANY, "idleTimeoutSeconds": WHOLE,
        "upscalingMode": one_of("Default", "Aggressive", "Conservative"), "version": one_of("v1", "v2"), "env": listed(ANY),
        "envFrom": listed(ANY), "volumeMounts": listed(ANY)}),
    "gcsFaultToleranceOptions": fields({
        "redisUsername": ANY, "redisPassword": ANY, "externalStorageNamespace": TEXT, "redisAddress": TEXT}),
    "headGroupSpec": fields(GROUP | {"headService": ANY, "enableIngress": FLAG, "serviceType": TEXT}, "template"),
    "workerGroupSpecs": listed(fields(GROUP | {
        "groupName": TEXT, "replicas": WHOLE, "minReplicas": WHOLE, "maxReplicas": WHOLE, "idleTimeoutSeconds": WHOLE, "suspend": FLAG,
        "scaleStrategy": ANY, "numOfHosts": WHOLE}, "groupName", "template")),
}, "headGroupSpec")
RAYJOB = fields({
    "apiVersion": one_of("ray.io/v1"), "kind": one_of("RayJob"), "metadata": ANY,
    "spec": fields({
        "activeDeadlineSeconds": WHOLE, "backoffLimit": WHOLE, "rayClusterSpec": CLUSTER, "submitterPodTemplate": POD, "metadata": TEXTS,
        "clusterSelector": TEXTS, "submitterConfig": fields({"backoffLimit": WHOLE}), "managedBy": TEXT, "deletionStrategy": ANY,
        "entrypoint": TEXT, "runtimeEnvYAML": TEXT, "jobId": TEXT,
        "submissionMode": one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"), "entrypointResources": TEXT,
        "entrypointNumCpus": REAL, "entrypointNumGpus": REAL, "ttlSecondsAfterFinished": WHOLE, "preRunningDeadlineSeconds": WHOLE,
        "shutdownAfterJobFinishes": FLAG, "suspend": FLAG}),
}, "apiVersion", "kind", "metadata", "spec")


def manifest(name):
    return yaml.safe_load((CONFIGS / "cluster" / name).read_text())


def test_the_rayjob_fits_kuberays_schema():
    jsonschema.validate(manifest("rayjob.yaml"), RAYJOB)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda job: job["spec"].update(entryPoint="python"), "'entryPoint' was unexpected"),
        (lambda job: job["spec"].update(backoffLimit="3"), "'3' is not of type 'integer'"),
        (lambda job: job["spec"]["rayClusterSpec"].pop("headGroupSpec"), "'headGroupSpec' is a required property"),
        (lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}), "0 is not of type 'string'"),
        (lambda job: job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].update(maxReplica=3), "'maxReplica' was unexpected"),
    ],
)
def test_a_mistake_in_a_rayjob_is_seen(change, sentence):
    job = manifest("rayjob.yaml")
    change(job)
    with pytest.raises(jsonschema.ValidationError, match=sentence):
        jsonschema.validate(job, RAYJOB)


def test_the_rayjob_mounts_what_it_writes_to_and_has_ttl_only_with_shutdown():
    spec = manifest("rayjob.yaml")["spec"]
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounts["/shared"] in volumes
        assert {container["image"] for container in pod["containers"]} == {"rllib-macro:0.1.0"}
    assert spec["entrypoint"].split("--runs ")[1].startswith("/shared/")
    assert spec["shutdownAfterJobFinishes"] or not spec["ttlSecondsAfterFinished"]


def test_the_rayjob_runs_a_command_that_exists_on_the_ray_that_is_pinned():
    spec = manifest("rayjob.yaml")["spec"]
    python, m, module, verb, config, *rest = shlex.split(spec["entrypoint"])
    assert [python, m, module, verb] == ["python", "-m", "rllib_macro", "train"]
    options = rest.index("--runs")
    run = checked(config_file(config), rest[:options] + rest[options + 2:])
    assert (run.name, run.resources.num_env_runners) == ("rbc_kubernetes", 4)
    pinned = f"ray[default,rllib]=={spec['rayClusterSpec']['rayVersion']}"
    assert pinned in (ROOT / "requirements.txt").read_text()


def test_the_autoscaling_cluster_fits_rays_own_schema():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = manifest("autoscaler.yaml")
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert sum(kind.get("max_workers", 0) for kind in cluster["available_node_types"].values()) <= cluster["max_workers"]
    assert all((ROOT / path).exists() for path in cluster["file_mounts"].values() if not path.startswith("~"))
    assert any("-r ~/requirements.txt" in command for command in cluster["setup_commands"])
