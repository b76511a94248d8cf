"""What MILAN costs: exemplars over extraction, describing many units at once over a loop over units.

`make bench` runs it after the others. Both sides are measured in the same run; the loop over units
before and after the rest, on a part of the units.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from nemesis.arithmetic import fix_products

QUANTILE = 0.99
WORDS, FEATURES, EXEMPLARS, BEAM, LENGTH, TEMPERATURE = 5000, 3904, 15, 50, 15, 0.2


def main():
    fix_products()  # as in every job
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    for bench in (bench_exemplars, bench_decoding):
        bench(options)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--units", type=int, default=512, help="units that are described at once")
    parser.add_argument("--single-units", type=int, default=4, help="units of each round of the loop")
    parser.add_argument("--probe", help="a folder in Broden's layout, for the exemplars (default: minibroden)")
    parser.add_argument("--images", type=int, default=600, help="of it, repeated if need be")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def bench_exemplars(options):
    """15 exemplars of all units of two layers, at the images' size, over the extraction of their maps."""
    import bench

    from nemesis.dissection.stored import open_maps
    from nemesis.milan.exemplar_store import write_exemplars
    from nemesis.milan.exemplars import ExemplarSettings, collect_exemplars
    from nemesis.models.network import LayerReader
    from nemesis.probes.probe import remember_images

    def collect(job, folder: Path, size: int):
        images = remember_images(job.probe)
        for layer in job.options.layers:
            maps = open_maps(job.store, layer)
            found = collect_exemplars(maps, images, range(maps.units), ExemplarSettings(EXEMPLARS, QUANTILE, size))
            write_exemplars(folder / f"{layer}.zarr", found)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = options.probe or bench.draw_minibroden(folder / "minibroden")
        asked = {"model": "efficientnet_lite0", "layers": ["blocks.10", "blocks.15"], "dtype": "float16"}
        asked |= {"measure": source, "images": options.images, "device": "cpu"}
        job = bench.Job(argparse.Namespace(**asked), folder)
        size, rounds = max(job.probe.size), []
        with LayerReader(job.network, asked["layers"], job.device, pad_to=job.batch) as reader:
            for _ in range(options.repeats):
                extraction, _ = clock(lambda: job.extract(reader))
                rounds.append((extraction, clock(lambda: collect(job, folder / "exemplars", size))[0]))
                written = sum(path.stat().st_size for path in folder.glob("exemplars/**/*") if path.is_file())
                shutil.rmtree(folder / "exemplars")
    print(f"exemplars of 432 units on {options.images} images, {size} px, {options.threads} threads")
    print(
        "  extraction {:.1f} s, exemplars {:.2f} s".format(
            *(statistics.median(part) for part in zip(*rounds, strict=True))
        )
    )
    share = statistics.median(ours / extraction for extraction, ours in rounds)
    print(f"  exemplars take {share:.1%} of extraction ({options.repeats} rounds), {written / 1e6:.0f} MB written")


def bench_decoding(options):
    """Re-ranked beams of 50 with random weights of the published sizes: no beam ever ends, the worst case."""
    from nemesis.milan.describe import decode

    captioner, features = make_captioner(), torch.rand(options.units, EXEMPLARS, FEATURES)
    loops = {"a loop over units, as the published code computes": False, "the same loop, keys computed once": True}
    seconds: dict[str, list] = {name: [] for name in [*loops, "this library, one unit at a time"]}

    def run_loops():
        for unit in features[: options.single_units]:
            for name, keep_keys in loops.items():
                seconds[name].append(clock(lambda: describe_one(captioner, unit, keep_keys))[0])  # noqa: B023
            seconds["this library, one unit at a time"].append(clock(lambda: decode(captioner, unit[None]))[0])  # noqa: B023

    decode(captioner, features[:1])
    run_loops()
    together, found = clock(lambda: decode(captioner, features))
    run_loops()
    for unit, caption in zip(features[: options.single_units], found.tokens.tolist(), strict=False):
        assert describe_one(captioner, unit) == caption, "the loop and the library differ"
    each = together / options.units
    print(
        f"describing {options.units} units, beam {BEAM}, {WORDS} words, {FEATURES} features, {options.threads} threads"
    )
    print(f"  together: {together:.1f} s, {each:.3f} s a unit")
    for name, values in seconds.items():
        mean = sum(values) / len(values)
        print(f"  {name}: {mean:.3f} s a unit ({len(values)} timed); together takes {each / mean:.0%} of it")


def make_captioner():
    """A captioner of the published sizes with random weights."""
    from nemesis.milan.captioner import Captioner, Decoder, LanguageModel
    from nemesis.milan.text import Vocabulary

    torch.manual_seed(0)
    words = Vocabulary(tuple(f"word{number}" for number in range(WORDS)))
    decoder, language = Decoder(FEATURES, words.size), LanguageModel(words.size, words.pad)
    return Captioner(words, decoder.eval(), language.eval(), {})


@torch.inference_mode()
def describe_one(captioner, unit: torch.Tensor, keep_keys: bool = False) -> list[int]:
    """The best re-ranked beam of one unit (n, F), in the plain way: every beam carries its own copy of everything.

    keep_keys: do not compute the exemplars' keys anew for each beam and step, as the published code does.
    """
    from nemesis.milan.captioner import State

    decoder, language, words = captioner.decoder, captioner.language, captioner.vocabulary
    features = unit[None]
    state = decoder.begin(features)
    _, state = decoder.advance(decoder.word_gates(torch.tensor([words.start])), state, features)
    scores, tokens = decoder.output(state.h)[0].topk(BEAM)
    sequences, features = tokens[:, None], features.expand(BEAM, -1, -1).clone()
    state = State(*(part.expand(BEAM, *part.shape[1:]).clone() for part in (state.h, state.c, state.keys)))
    for _ in range(LENGTH - 1):
        if (tokens == words.stop).all():
            break
        keys = state.keys if keep_keys else decoder.attend.key_to_hidden(features)
        _, state = decoder.advance(decoder.word_gates(tokens), State(state.h, state.c, keys), features)
        log_probs = decoder.output(state.h)
        ended = tokens == words.stop
        log_probs[ended] = -torch.inf
        log_probs[ended, words.stop] = 0
        scores, best = (scores[:, None] + log_probs).flatten().topk(BEAM)
        parent, tokens = best // words.size, best % words.size
        sequences = torch.cat([sequences[parent], tokens[:, None]], dim=1)
        state = State(state.h[parent], state.c[parent], state.keys[parent])
        features = features[parent]
    prior = language(torch.nn.functional.pad(sequences, (1, 0), value=words.start)[:, :-1])[0]
    chosen = prior.gather(2, sequences[..., None])[..., 0]  # (P, T)
    before = (sequences == words.stop).cumsum(dim=1) - (sequences == words.stop).long()
    totals = scores - TEMPERATURE * (chosen * (before == 0)).sum(dim=1)
    best = sequences[totals.argmax()].tolist()
    return best + [words.stop] * (LENGTH - len(best))


def clock(work):
    """Seconds that `work()` takes, and what it gives."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


if __name__ == "__main__":
    main()
