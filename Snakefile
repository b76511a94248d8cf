from snakemake.utils import min_version

min_version("9.20")


if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/files_common.smk"
include: "rules/downloads.smk"
include: "rules/probes.smk"
include: "rules/models.smk"
include: "rules/dissection.smk"
include: "rules/corruption.smk"
include: "rules/designed.smk"
include: "rules/milan_common.smk"
include: "rules/captioner.smk"
include: "rules/milan.smk"
include: "rules/exemplars.smk"
include: "rules/tables.smk"
include: "rules/milan_tables.smk"
include: "rules/report_common.smk"
include: "rules/report.smk"


rule all:
    """Everything that the config asks for."""
    default_target: True
    input:
        EXTRACTED,
        TABLES,
        FIGURES,
        MILAN_RESULTS,
        REPORT_PAGE,
