import sys
from pathlib import Path

SCRIPTS = Path(workflow.basedir) / "scripts"
sys.path.insert(0, str(SCRIPTS))

from nemesis.config import check_config, list_absent, read_config
from nemesis.entries import wants_gpu
from nemesis.errors import InputError
from nemesis.files import check_writable
from nemesis.interpreter import check_interpreter
from nemesis.locks import clear_dead_lock
from nemesis.plan import gathered, paths, user_files
from nemesis.plan.plan import Plan
from nemesis.provenance import code_hash as hash_imports
from nemesis.resources import grow, if_streamed

files = list(workflow.config_settings.configfiles) or ["config.yaml"]
where = ", ".join(map(str, files))
try:
    # Snakemake took the last of two equal keys; jobs of this run have the same files.
    for file in files if workflow.is_main_process else []:
        read_config(file)
    config = check_config(
        config, Path(workflow.basedir) / "schemas" / "config.schema.yaml", where
    )
    absent = list_absent(config, where)
    if absent and not workflow.output_settings.dryrun:
        raise InputError(absent[0])
    if not (
        workflow.output_settings.dryrun
        or workflow.deployment_settings.deployment_method
    ):
        check_interpreter()
except InputError as error:
    print(f"nemesis: {error}", file=sys.stderr)
    raise SystemExit(1) from None

# A plan can be looked at before everything is there.
for line in absent:
    print(f"nemesis: {line}", file=sys.stderr)

# After kill -9 the next call goes on; jobs on a cluster are not runs of their own.
if workflow.is_main_process:
    clear_dead_lock()

# Places, corruptions and files; nemesis.plan.paths has the patterns.
PLAN = Plan(config)
# A machine with one GPU runs one such job at a time (profiles/default sets gpu=1).
GPU = int(wants_gpu(config["device"]))


wildcard_constraints:
    probe="[^/]+",
    model="[^/]+",
    layer="[^/]+",
    kind="[a-z]+",
    std="[0-9.e-]+",
    draw="[0-9]+",
    method="pgd|fgsm",
    eps="[0-9.e-]+",
    mode="untargeted|targeted|shared",
    masks="segmentation|baseline",
    shard="[0-9]+",
    corruption="(noise|designed)/[^/]+",


def code_hash(script):
    """Hash of the library modules behind a script: editing one reruns the rules that use it."""
    return hash_imports(SCRIPTS / f"{script}.py")


def place_of(wildcards):
    """The place that a job is about: (probe, model, layer)."""
    return wildcards.probe, wildcards.model, wildcards.layer


def choose(section, *names):
    """The keys of a section on which a job depends; those that are there."""
    return {name: section[name] for name in names if name in section}
