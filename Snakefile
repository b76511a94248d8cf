from snakemake.utils import min_version

min_version("9.20")


if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/downloads.smk"
include: "rules/probes.smk"
include: "rules/models.smk"
include: "rules/dissection.smk"
include: "rules/noise.smk"
include: "rules/designed.smk"
include: "rules/captioner.smk"
include: "rules/exemplars.smk"
include: "rules/milan.smk"
include: "rules/tables.smk"
include: "rules/report.smk"


rule all:
    """Everything that the config asks for."""
    default_target: True
    input:
        gathered.targets(PLAN),


onstart:
    try:
        check_writable("results")
    except InputError as error:
        print(f"nemesis: {error}", file=sys.stderr)
        raise SystemExit(1) from None


onsuccess:
    found = Path(PLAN.of_run(paths.HEADLINE))
    print(f"\n{found.read_text()}" if found.exists() else "")
