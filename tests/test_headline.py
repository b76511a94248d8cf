"""What was found, in three texts, from tables whose numbers are known."""

import math

import pandas as pd
import pytest

from nemesis.figures.headline import LESS, MORE, NO_MORE, Share, compare, pool, write_headline

PLACE = {"probe": "scenes", "model": "vgg"}
NAN = float("nan")


def noise_table(*rows, kind="gaussian"):
    """Rows of (layer, std, fraction, units, share, null churn), each with an interval of 10 points either side."""
    names = ["layer", "std", "fraction", "units", "manipulated", "null_churn"]
    table = pd.DataFrame(rows, columns=names).assign(**PLACE, kind=kind)
    table["rms"] = 255 * table["std"]
    for name, low, high in (("manipulated", "low", "high"), ("null_churn", "null_low", "null_high")):
        table[low], table[high] = (table[name] - 0.1).clip(0), (table[name] + 0.1).clip(upper=1)
    return table


def tell_noise(*rows, **more):
    return write_headline({"noise": noise_table(*rows).assign(**more)})[0]


def designed_table(*rows, psnr=36.0):
    """Rows of (layer, eps, mode, units, share, share that hit the target, share under noise, null churn)."""
    names = ["layer", "eps", "mode", "units", "manipulated", "target_hit", "noise_manipulated", "null_churn"]
    table = pd.DataFrame(rows, columns=names).assign(**PLACE, method="pgd", masks="segmentation", psnr=psnr)
    return table.assign(fraction_poisoned=0.05)


def tell_designed(*rows, **more):
    return write_headline({"designed": designed_table(*rows, **more)})[1]


def test_verdicts_need_intervals_apart():
    share = Share(0.5, 0.4, 0.6, 100)
    assert compare(share, Share(0.3, 0.2, 0.39, 100)) == MORE
    assert compare(share, Share(0.3, 0.2, 0.4, 100)) == NO_MORE  # they touch
    assert compare(share, Share(0.7, 0.6, 0.8, 100)) == NO_MORE
    assert compare(share, Share(0.7, 0.61, 0.8, 100)) == LESS
    assert compare(share, Share(NAN, NAN, NAN, 100)) == compare(Share(NAN, NAN, NAN, 0), share) == ""


def test_pooled_shares_count_units():
    rows = pd.DataFrame({"units": [30, 10], "manipulated": [0.5, 0.1]})
    found = pool(rows, "manipulated")
    assert found.count == "16 of 40" and found.value == 0.4
    assert found.interval == "26 to 55%"  # Wilson's for 16 of 40
    assert not pool(rows.assign(manipulated=[0.5, NAN]), "manipulated").known
    assert not pool(rows.iloc[:0], "manipulated").known
    assert pool(rows.assign(manipulated=0.0), "manipulated").count == "none of 40"
    assert pool(rows.assign(manipulated=0.01), "manipulated").count == "under 1 of 40"  # a mean over draws


def test_noise_that_renames_more_than_resampling():
    rows = [
        ("conv1", 0.02, 1.0, 50, 0.9, 0.05),
        ("conv1", 0.05, 0.5, 50, 0.9, 0.05),
        ("conv1", 0.05, 1.0, 50, 0.15, 0.45),
        ("conv2", 0.05, 1.0, 40, 0.6, 0.3),
        ("conv3", 0.05, 1.0, 40, 0.7, 0.6),
        ("conv4", 0.05, 1.0, 0, NAN, NAN),
    ]
    assert tell_noise(*rows) == (
        "Noise of std 0.05 renames 60% of the labelled units of conv2 (95% interval 50 to 70%, n = 40), more than"
        " resampling alone (30%, 20 to 40%). Gaussian noise, std 0.05, in every image (PSNR 26 dB); by layer 15% to"
        " 70%, more than resampling in 1 of 3 layers, less in 1."
    )


def test_noise_that_is_not_told_apart_from_resampling():
    told = tell_noise(("conv1", 0.05, 0.5, 50, 0.2, 0.25), ("conv2", 0.05, 0.5, 2, 0.3, 0.2))
    assert told == (
        "Noise of std 0.05 renames 30% of the labelled units of conv2 (95% interval 20 to 40%, n = 2), not measurably"
        " more than resampling alone (20%, 10 to 30%). Gaussian noise, std 0.05, in 50% of the images (PSNR 26 dB);"
        " by layer 20% to 30%, more than resampling in none of 2 layers, less in none."
    )


def test_noise_that_renames_less_or_none():
    assert "(95% interval 0 to 20%, n = 9), less than resampling alone (50%" in tell_noise(
        ("conv1", 0.05, 1.0, 9, 0.1, 0.5)
    )
    none = tell_noise(("conv1", 0.05, 1.0, 9, 0.0, 0.5), ("conv2", 0.05, 1.0, 50, 0.0, 0.05))
    assert none.startswith(
        "Noise of std 0.05 renames none of the labelled units of conv2 (95% interval 0 to 10%, n = 50), not measurably"
        " more than resampling alone (5%, 0 to 15%)."
    )
    assert none.endswith("; by layer 0%, more than resampling in none of 2 layers, less in 1.")


def test_noise_without_its_control():
    told = tell_noise(("conv1", 0.05, 1.0, 9, 0.4, NAN), ("conv2", 0.05, 1.0, 9, 0.5, 0.1))
    assert "of conv2 (95% interval 40 to 60%, n = 9), more than resampling alone (10%" in told
    assert told.endswith("; by layer 40% to 50%.")
    alone = tell_noise(("conv1", 0.05, 1.0, 9, 0.4, NAN))
    assert alone.startswith("Noise of std 0.05 renames 40% ") and "n = 9); no control was measured. Gaussian" in alone
    assert alone.endswith("in every image (PSNR 26 dB).")


@pytest.mark.parametrize(("rms", "unseen"), [(2.54, True), (2.56, False)])
def test_noise_is_too_weak_to_see_by_what_was_stored(rms, unseen):
    told = tell_noise(("conv1", 0.01, 1.0, 9, 0.4, 0.1), rms=rms)
    assert told.startswith("Noise too weak to see renames" if unseen else "Noise of std 0.01 renames")
    assert "Gaussian noise, std 0.01, in every image (PSNR 40 dB)." in told


def test_storage_alone():
    told = tell_noise(("conv1", 0.0, 1.0, 9, 0.0, 0.1), kind="none", rms=0.0)
    assert told == (
        "Storing the images anew renames none of the labelled units of conv1 (95% interval 0 to 10%, n = 9), not"
        " measurably more than resampling alone (10%, 0 to 20%). Storage alone, in every image."
    )


def test_a_layer_is_named_with_what_differs():
    rows = [("conv1", 0.05, 1.0, 9, 0.4, 0.1), ("conv2", 0.05, 1.0, 9, 0.5, 0.1)]
    assert " of conv2 of other (95%" in tell_noise(*rows, model=["vgg", "other"])
    assert " of conv2 of other on b (95%" in tell_noise(*rows, model=["vgg", "other"], probe=["a", "b"])


def test_small_and_large_shares_are_not_rounded_away():
    assert "renames under 1% of" in tell_noise(("conv1", 0.05, 1.0, 400, 0.0025, 0.1))
    assert "renames over 99% of" in tell_noise(("conv1", 0.05, 1.0, 400, 0.9975, 0.1))
    assert "renames 100% of" in tell_noise(("conv1", 0.05, 1.0, 400, 1.0, 0.1))


def test_designed_changes_that_do_more_than_noise():
    rows = [
        ("conv1", 2, "untargeted", 40, 0.1, None, 0.0, 0.0),
        ("conv1", 6, "untargeted", 40, 1.0, None, 0.25, 0.0),
        ("conv2", 6, "untargeted", 50, 0.8, None, 0.0, 0.1),
        ("conv3", 6, "untargeted", 0, NAN, None, NAN, NAN),
        ("conv2", 6, "targeted", 50, 1.0, 0.4, 0.0, 0.1),
    ]
    assert tell_designed(*rows) == (
        "Designed changes rename 80 of 90 attacked units (89%, 95% interval 81 to 94%), more than noise of the same"
        " size on the same images (11%, 6 to 19%) and resampling alone (6%, 2 to 12%). Aimed at another concept,"
        " they give 20 of 50 its name (40%, 28 to 54%). PGD, untargeted, eps 6/255, in at most 5% of the images (PSNR"
        " 36 dB)."
    )


def test_designed_changes_that_are_not_told_apart():
    mixed = tell_designed(("conv1", 6, "untargeted", 9, 0.9, None, 0.1, 0.6))
    assert ", more than noise of the same size on the same images (10%" in mixed
    assert "), but not measurably more than resampling alone (60%" in mixed and "Aimed" not in mixed
    neither = tell_designed(("conv1", 6, "untargeted", 9, 0.5, None, 0.3, 0.6))
    assert ", not measurably more than noise of the same size on the same images (30%" in neither
    assert ") or resampling alone (60%" in neither
    less = tell_designed(("conv1", 6, "untargeted", 90, 0.0, None, 0.0, 0.6))
    assert less.startswith("Designed changes rename none of 90 attacked units (0%, 95% interval 0 to 4%), not measur")
    assert ", but less than resampling alone (60%" in less


def test_designed_changes_without_a_control():
    told = tell_designed(("conv1", 6, "targeted", 9, 0.5, NAN, NAN, NAN), psnr=math.inf)
    assert "; no control was measured. PGD, targeted, eps 6/255, in at most 5% of the images." in told
    half = tell_designed(("conv1", 6, "shared", 90, 0.5, NAN, NAN, 0.1))
    assert "), more than resampling alone (10%" in half and "noise of" not in half


@pytest.mark.parametrize(("psnr", "unseen"), [(40.0, True), (39.9, False), (math.inf, False), (NAN, False)])
def test_designed_changes_are_too_weak_to_see_by_what_was_stored(psnr, unseen):
    told = tell_designed(("conv1", 2, "untargeted", 9, 0.5, None, 0.3, 0.6), psnr=psnr)
    assert told.startswith("Designed changes too weak to see rename" if unseen else "Designed changes rename")


def test_descriptions():
    noise = noise_table(("conv1", 0.05, 1.0, 50, 0.2, 0.1), ("conv2", 0.05, 1.0, 40, 0.6, 0.1)).drop(columns="rms")
    attacked = designed_table(
        ("conv1", 6, "untargeted", 4, 0.0, None, 0.0, 0.0), ("conv1", 6, "untargeted", 4, 0.5, None, 0.25, 0.0)
    )
    attacked = attacked.drop(columns=["masks", "psnr", "fraction_poisoned"]).assign(count=[5, 30], images=[5.0, 30.0])
    told = write_headline({"table_1": noise, "table_3": attacked})[2]
    assert told == (
        "Noise of std 0.05 changes 34 of 90 MILAN descriptions (38%, 95% interval 28 to 48%), more than resampling"
        " alone (10%, 5 to 18%). Gaussian noise, std 0.05, in every image. Designed changes to 30 images change 2 of 4"
        " descriptions (50%, 95% interval 15 to 85%), not measurably more than noise of the same size on the same"
        " images (25%, 5 to 70%) or resampling alone (0%, 0 to 49%). PGD, untargeted, eps 6/255."
    )
    assert write_headline({"table_1": noise})[2] == told.partition(" Designed")[0]
    alone = write_headline({"table_3": attacked})[2]
    assert alone.startswith("Designed changes to 30 images change 2 of 4 MILAN descriptions (50%")
    assert write_headline({"table_1": noise.assign(null_churn=NAN)})[2].startswith(
        "Noise of std 0.05 changes 34 of 90 MILAN descriptions (38%, 95% interval 28 to 48%); no control was measured."
    )


def test_what_was_not_run_is_said():
    nothing = [
        "Random noise: no labels were compared.",
        "Designed corruption: no unit was attacked.",
        "Descriptions (MILAN): none were compared.",
    ]
    assert write_headline({}) == nothing
    noise = noise_table(("conv1", 0.05, 1.0, 0, NAN, NAN))
    designed = designed_table(("conv1", 6, "untargeted", 0, NAN, NAN, NAN, NAN))
    tables = {"noise": noise, "designed": designed, "table_1": noise, "table_3": designed.assign(images=30.0)}
    assert write_headline(tables) == nothing
    assert write_headline({name: table.iloc[:0] for name, table in tables.items()}) == nothing
