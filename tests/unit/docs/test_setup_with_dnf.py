"""scripts/setup.sh on a machine with dnf: which packages it installs, in a root that has none of them. No package is really installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ("bash", "cat", "chmod", "cksum", "dirname", "env", "flock", "grep", "head", "mkdir", "mktemp", "rm", "tail")
DNF = """#!/bin/bash
echo "$*" >> "$RECORD"
case $* in
  *python3.11*) cp "$STAND_IN" "${0%/*}/python3.11" ;;
esac
"""
FAILING_DNF = """#!/bin/bash
echo "$*" >> "$RECORD"
echo 'Error: Unable to find a match: '"${@: -1}" >&2
exit 1
"""
PYTHON = """#!/bin/bash
case $1 in
  --version) echo Python 3.11.9 ;;
  -m) mkdir -p "$3/bin" && printf '#!/bin/bash\\n' > "$3/bin/python" && chmod +x "$3/bin/python" ;;
esac
"""
"""Stands for the interpreter that dnf installs: says its version, and makes an environment whose pip does nothing."""


@dataclass(frozen=True)
class Setup:
    """What a call of setup.sh did."""

    exit_code: int
    stderr: str
    calls: list[str]


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def set_up(folder: Path, *arguments: str, dnf: str = DNF) -> Setup:
    """Run setup.sh as root of an empty RHEL-like root: no apt, no bcc, no fuse3, no strace, and no Python that is new enough."""
    tools, project = folder / "bin", folder / "project"
    (project / "scripts").mkdir(parents=True)
    tools.mkdir()
    for name in (*TOOLS, "cp"):
        where = shutil.which(name)
        assert where is not None, name
        (tools / name).symlink_to(where)
    executable(tools / "dnf", dnf)
    executable(tools / "id", "#!/bin/bash\necho 0\n")
    executable(folder / "python", PYTHON)
    script = (ROOT / "scripts/setup.sh").read_text()
    for place in ("/usr/lib", ":/usr/sbin:/sbin", "/sys/kernel/tracing"):
        assert place in script
        script = script.replace(place, f"{':' if place[0] == ':' else ''}{folder}/absent")
    executable(project / "scripts/setup.sh", script)
    (project / "pyproject.toml").touch()
    (project / "requirements-dev.txt").touch()
    record = folder / "calls"
    record.touch()
    environment = {"PATH": str(tools), "RECORD": str(record), "STAND_IN": str(folder / "python"), "TMPDIR": str(folder)}
    done = subprocess.run(
        [str(tools / "bash"), str(project / "scripts/setup.sh"), *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Setup(done.returncode, done.stderr, record.read_text().splitlines())


def test_each_need_is_installed_with_its_packages_of_fedora_and_epel(tmp_path: Path) -> None:
    # GIVEN an empty root with dnf / WHEN the project is set up
    done = set_up(tmp_path)
    # THEN each need has its own call, with the package names of Fedora
    assert done.calls == [f"install -y -q {name}" for name in ("python3-bcc", "fuse3", "strace", "python3.11")]
    assert done.exit_code == 0, done.stderr


def test_the_tools_of_the_tests_are_installed_on_request(tmp_path: Path) -> None:
    done = set_up(tmp_path, "--tests")
    assert "install -y -q gcc glibc-devel" in done.calls
    assert "install -y -q chromium dejavu-sans-fonts" in done.calls
    assert done.exit_code == 0, done.stderr


def test_a_package_that_cannot_be_installed_is_named_with_the_command_and_the_others_are_tried(tmp_path: Path) -> None:
    # GIVEN a dnf that finds no package, as without EPEL / WHEN the project is set up
    done = set_up(tmp_path, dnf=FAILING_DNF)
    # THEN every need was tried, and each message has the reason, the command, and what does not work
    assert len(done.calls) == 4
    for name in ("python3-bcc", "fuse3", "strace", "python3.11"):
        assert f"could not install {name}: Error: Unable to find a match: {name}" in done.stderr
        assert f"install it with: sudo dnf install {name}; " in done.stderr
    # AND it fails, because there is no Python
    assert done.exit_code != 0
    assert "there is no Python 3.11 to 3.14 on this machine" in done.stderr


def test_the_page_names_the_packages_that_the_script_installs(tmp_path: Path) -> None:
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    named = re.search(r"sudo dnf install ([^`]+)`", page)
    assert named is not None
    calls = set_up(tmp_path).calls
    assert {f"install -y -q {name}" for name in named[1].split()} <= set(calls)


def test_a_second_call_installs_no_python_again(tmp_path: Path) -> None:
    assert set_up(tmp_path).exit_code == 0
    record = tmp_path / "calls"
    record.write_text("")
    environment = {"PATH": str(tmp_path / "bin"), "RECORD": str(record), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [str(tmp_path / "bin/bash"), str(tmp_path / "project/scripts/setup.sh")],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "python3.11" not in record.read_text()
