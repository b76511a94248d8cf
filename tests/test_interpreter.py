"""A Python that Snakemake cannot start scripts with is named before anything runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from workflow_runs import CONFIG

from nemesis.errors import InputError
from nemesis.interpreter import check_interpreter

ROOT = Path(__file__).resolve().parents[1]


def test_paths_that_a_shell_reads():
    for path in ("/usr/bin/python3", "/home/me/nemesis-1.0_x/.venv/bin/python3.12", "/tmp/a+b,c@d:e/python"):
        check_interpreter(path)
    for path in ("/my projects/python", "/it's/python", "/a&b/python", "/$HOME/python", "/a;b/python", "/(x)/python"):
        with pytest.raises(InputError, match="cannot start scripts with a Python whose path"):
            check_interpreter(path)


def test_the_workflow_says_it_in_one_line(tmp_path):
    (tmp_path / "my venv").mkdir()
    (tmp_path / "my venv" / "v").symlink_to(sys.prefix)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    python = tmp_path / "my venv" / "v" / "bin" / "python"
    call = [python, "-m", "snakemake", "-s", ROOT / "Snakefile", "--cores", "1", "--configfile", "config.yaml"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("nemesis: ")]
    assert ended.returncode == 1 and len(lines) == 1
    assert f"nemesis: {python}: Snakemake cannot start scripts" in lines[0]
    assert "Traceback" not in ended.stderr
