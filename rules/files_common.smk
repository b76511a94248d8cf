from nemesis.estimate.probes import image_size
from nemesis.sources import find_source


def find_probe_index(wildcards):
    """The index.csv of a probe's folder in Broden's layout."""
    spec = config["probes"][wildcards.probe]
    if spec["kind"] == "minibroden":
        return f"results/probes/{wildcards.probe}/broden/index.csv"
    if spec["kind"] == "download":
        return f"results/downloads/{spec['version']}/index.csv"
    return if_there(Path(spec["path"]) / "index.csv")


def if_there(path):
    """A file or folder of the user's; without it there are dry runs only."""
    return str(Path(path)) if Path(path).exists() else []


def find_model_files(wildcards):
    """The files behind a model, the user's own or downloaded: weights and loader."""
    spec = config["models"][wildcards.model]
    if spec.get("weights") == "download":
        return weights_path(spec["kind"])
    files = [spec.get("weights"), spec.get("loader", "").rpartition(":")[0]]
    return [
        if_there(path)
        for path in files
        if path not in ("", None, "random") and if_there(path)
    ]


def shown_sizes(wildcards):
    """(H, W) of the images that a model is shown, by probe: what its card and its checks are made for.

    Each size stands once, so that a second probe of the same size is no reason to prepare the model again.
    """
    found = {}
    for extraction in EXTRACTIONS:
        size = image_size(config["probes"][extraction.probe])
        if extraction.model == wildcards.model and size and size not in found.values():
            found[extraction.probe] = size
    return found


def weights_path(kind):
    """Where the downloaded weights of a kind of network lie."""
    return f"results/downloads/{kind}/{find_source(kind).file}"


def model_spec(wildcards):
    """A model's entry in the config, with the path of its weights where they are downloaded."""
    spec = config["models"][wildcards.model]
    if spec.get("weights") != "download":
        return spec
    return spec | {"weights": weights_path(spec["kind"])}
