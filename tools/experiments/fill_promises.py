"""Are promises kept? Populations whose risk is known, a shift that breaks them, and the embedded catalogue as an illustration.

`simulate` draws known products from made-up populations, lets `make_promise` choose a threshold and holds it against the true risk of the population there. In
`GIVEN` the confidence is given; in `FITTED` it is learnt by `cross_fit` on signals, pure noise among them, and the gaps are judged by `predict_confidence`. `worst_start` looks
for populations in which the start of the search errs. `shifts` draws gaps that are not like the known products. `splits` deals test products of the embedded catalogue
into known ones and gaps, 500 times for each stand-in, on signals that `signals` has asked for and stored, and compares with what a shop would do otherwise.

    python tools/experiments/fill_promises.py [signals | simulate | splits]

Writes tests/data/fill/fill_promises.json, with the fingerprint of the code of the pages, and tests/data/fill/standin_signals.parquet.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import scipy
from code_fingerprint import code_fingerprint

from mmpc_analysis.fill.confidence import aurc, aurc_difference, cross_fit, excess_aurc, predict_confidence
from mmpc_analysis.fill.promises import START, THRESHOLDS, make_promise, most_wrong, shift_warning

CODE = ("fill.confidence", "fill.promises")
DATA = Path(__file__).resolve().parents[2] / "tests/data/fill"
OUT = DATA / "fill_promises.json"
SIGNALS_FILE = DATA / "standin_signals.parquet"
GRID = np.array(THRESHOLDS)
WISHES = ((0.05, 0.9), (0.1, 0.95))  # max_wrong and sure
SIZES = (60, 150, 500, 1000)
GIVEN_DRAWS, SHOWN = 2000, 25
FITTED_SIZES = (
    (60, 0.1, 0.9, 2000),
    (150, 0.05, 0.9, 1000),
    (500, 0.05, 0.9, 500),
)  # n, max_wrong, sure, populations
FULL = (
    "noise, just above",
    "much noise, just above",
    "tiny signal",
)  # The others are drawn a quarter as often
STANDINS = tuple(f"standin-{family}-{size}" for size in "sml" for family in ("gemma", "qwen"))
RISKS = ("title", "number", "type", "brand")
NAMES = ("logprob", "least_logprob", "agreement", "yes", "lift_rank")


def continuous(draw, risk):
    "A population with a confidence without ties: its draws, and its risk above every threshold."

    def population(a):
        c = np.sort(draw((np.arange(200_000) + 0.5) / 200_000))
        total = np.concatenate([[0.0], np.cumsum(risk(c, a)[::-1])])
        above = len(c) - np.searchsorted(c, GRID)
        return (
            lambda rng, n: (lambda c: (c, risk(c, a)))(draw(rng.random(n))),
            total[above] / np.maximum(above, 1),
            above / len(c),
        )

    return population


def discrete(values, shares, risks):
    "A population with few values of confidence."

    def population(a):
        c, q, r = np.array(values), np.array(shares), np.array([x(a) if callable(x) else x for x in risks])
        at = c[None, :] >= GRID[:, None]
        above = (at * q).sum(1)

        def draw(rng, n):
            which = rng.choice(len(c), n, p=q)
            return c[which], r[which]

        return draw, (at * q * r).sum(1) / np.maximum(above, 1e-300), above

    return population


GIVEN = {
    "calibrated": continuous(lambda u: u ** (1 / 8), lambda c, a: 1 - c),
    "too sure": continuous(lambda u: u ** (1 / 20), lambda c, a: np.minimum(3 * (1 - c), 1)),
    "all just above the limit": continuous(lambda u: 0.5 + 0.5 * u, lambda c, a: np.full(c.shape, 1.01 * a)),
    "tiny signal, just above": continuous(lambda u: 0.5 + 0.5 * u, lambda c, a: 1.01 * a + 0.2 * a * (1 - c)),
    "one confidence for all": discrete([0.9], [1.0], [lambda a: 1.01 * a]),
    "heavy ties across the limit": discrete(
        [0.97, 0.9, 0.6], [0.25, 0.65, 0.1], [lambda a: 0.9 * a, lambda a: 1.1 * a, 0.5]
    ),
    "five values": discrete(
        [0.99, 0.95, 0.9, 0.8, 0.5], [0.3, 0.25, 0.2, 0.15, 0.1], [0.01, 0.06, 0.1, 0.2, 0.5]
    ),
    "rare wrong": continuous(lambda u: 0.98 + 0.02 * u, lambda c, a: np.full(c.shape, 0.004)),
    "hump: the surest are wrong": continuous(
        lambda u: u ** (1 / 8), lambda c, a: np.where(c > 0.985, 3 * a, 0.7 * a)
    ),
    "waves": continuous(lambda u: 0.5 + 0.5 * u, lambda c, a: a * (1 + 0.9 * np.sin(40 * c))),
    "all wrong": continuous(lambda u: u, lambda c, a: np.ones(c.shape)),
}


def given(name, n, a, sure, number):
    "One promise: whether one is made, whether it is broken, and the share that is filled."
    draw, risk, above = POPULATIONS[name, a]
    rng = np.random.default_rng([list(GIVEN).index(name), n, int(a * 1000), int(sure * 1000), number])
    c, r = draw(rng, n)
    promise = make_promise(c, (rng.random(n) < r).astype(float), a, sure)
    if not promise.promised:
        return False, False, 0.0
    at = int(np.flatnonzero(promise.threshold == GRID)[0])
    return True, bool(risk[at] > a), float(above[at])


POPULATIONS = {(name, a): make(a) for name, make in GIVEN.items() for a in {a for a, _ in WISHES}}


def linear(k, slope, level):
    "Normal signals, of which the first tells how likely the suggestion is right."

    def draw(rng, n, a):
        x = rng.normal(size=(n, k))
        return x, 1 / (1 + np.exp(-(np.log(level(a) / (1 - level(a))) - slope * x[:, 0])))

    return draw


def with_gaps(rng, n, a):
    "A signal that is missing where the suggestion is more often wrong."
    x, r = linear(3, 1.0, lambda a: a)(rng, n, a)
    lost = rng.random(n) < 0.3
    x[lost, 1], r = np.nan, np.where(lost, np.minimum(1.5 * r, 1), r)
    return x, r


def steps(rng, n, a):
    "Agreement of four samples, nothing else: five values."
    value = rng.integers(0, 5, n)
    return value[:, None] / 4.0, np.array([3.0, 2.0, 1.3, 1.05, 1.05])[value] * a


FITTED = {
    "noise, just above": linear(3, 0.0, lambda a: 1.01 * a),
    "much noise, just above": linear(8, 0.0, lambda a: 1.01 * a),
    "tiny signal": linear(3, 0.2, lambda a: 1.2 * a),
    "signal": linear(4, 1.5, lambda a: 1.2 * a),
    "signal, often missing": with_gaps,
    "five values, none good enough": steps,
    "rare wrong": linear(3, 1.0, lambda a: 0.01),
}


def fitted(name, n, a, sure, number):
    "The same, of a confidence that is learnt by cross-fitting and gaps that are judged by it."
    rng = np.random.default_rng([100 + list(FITTED).index(name), n, int(a * 1000), int(sure * 1000), number])
    x, r = FITTED[name](rng, n, a)
    wrong = (rng.random(n) < r).astype(float)
    found = cross_fit(x, wrong, np.arange(n), seed=number)
    promise = make_promise(found.out_of_fold, wrong, a, sure)
    if not promise.promised:
        return False, False, 0.0
    x, r = FITTED[name](rng, 4000, a)
    filled = predict_confidence(found, x) >= promise.threshold
    return True, bool(filled.any() and r[filled].mean() > a), float(filled.mean())


def summary(rows, sure):
    "Shares of populations, and the first ones as marks: - for no promise, k for kept, b for broken."
    made, broken, filled = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    marks = "".join("b" if b else "k" if m else "-" for m, b in zip(made, broken, strict=True))
    limit = 1 - sure + 2 * np.sqrt(sure * (1 - sure) / len(rows))
    return {
        "promised": made.mean(), "broken": broken.mean(), "limit": limit, "filled": filled.mean(),
        "populations": len(rows), "first": marks[:SHOWN],
    }  # fmt: skip


def simulate():
    "Promises in populations of known risk."
    jobs = [("given", name, n, *wish, GIVEN_DRAWS) for name in GIVEN for n in SIZES for wish in WISHES]
    jobs += [
        ("fitted", name, n, a, sure, draws if name in FULL else draws // 4)
        for name in FITTED for n, a, sure, draws in FITTED_SIZES
    ]  # fmt: skip
    found = {"given": {}, "fitted": {}}
    for kind, name, n, a, sure, draws in jobs:
        run = {"given": given, "fitted": fitted}[kind]
        row = summary([run(name, n, a, sure, number) for number in range(draws)], sure)
        found[kind][f"{name} | {n} | {a} | {sure}"] = row
        numbers = " ".join(f"{key} {row[key]:.4f}" for key in ("broken", "promised", "filled"))
        print(f"{kind} {name:32s} {n:5d} {a} {sure} {numbers}", flush=True)
    return found


def worst_start(draws=20_000, tries=300):
    "The largest share of broken promises where two groups, the surer one worse, decide where the search begins."
    from scipy.stats import binom

    a, sure, rng, rows = 0.1, 0.9, np.random.default_rng(7), []
    table = np.arange(1001)
    limit = binom.ppf(1 - sure, table, a)
    limit = np.where(binom.cdf(limit, table, a) <= 1 - sure + 1e-15, limit, limit - 1)

    def broken(n, q1, q2, r1, r2, rng, draws):
        first = rng.binomial(n, q1, draws)
        both = first + rng.binomial(n - first, q2 / (1 - q1))
        k1 = rng.binomial(first, r1)
        k2 = k1 + rng.binomial(both - first, r2)
        least = max(22, START * n)
        at_first, at_second = first >= least, both >= least
        pass1, pass2 = k1 <= limit[first], k2 <= limit[both]
        return float(np.where(at_first, pass1, at_second & pass2).mean())

    for _ in range(tries):
        n = int(rng.choice(SIZES))
        q1 = float(np.clip(max(22 / n, START) * rng.uniform(0.8, 1.2), 0.01, 0.9))
        q2 = float(rng.uniform(0.05, 0.95 - q1) if q1 < 0.9 else 0.05)
        r1 = float(rng.uniform(a, min(5 * a, a * (q1 + q2) / q1)))
        r2 = max((a * 1.001 * (q1 + q2) - q1 * r1) / q2, 0.0)
        rows.append((broken(n, q1, q2, r1, r2, rng, draws), n, q1, q2, r1, r2))
    again = [(broken(*row[1:], rng, 20 * draws), *row[1:]) for row in sorted(rows, reverse=True)[:10]]
    names = ("broken", "n", "first_share", "second_share", "first_risk", "second_risk")
    return dict(zip(names, max(again), strict=True)) | {"sure": sure, "max_wrong": a, "tried": tries}


def shop(rng, n, mix, harder):
    "Products of two categories; `harder` multiplies the odds of being wrong without a trace in the signals."
    rare = rng.random(n) < mix
    x = rng.normal(size=(n, 3)) - 0.5 * rare[:, None]
    odds = np.exp(-2.6 - 1.2 * x[:, 0] + 0.8 * rare) * harder
    return x, odds / (1 + odds), np.where(rare, "rare", "usual")


SHIFTS = {
    "none": (0.2, 1.0),
    "more of the hard category": (0.4, 1.0),
    "mostly the hard category": (0.8, 1.0),
    "odds half as high again, unseen": (0.2, 1.5),
    "odds twice as high, unseen": (0.2, 2.0),
    "odds four times as high, unseen": (0.2, 4.0),
}


def shifts(draws=500, n=500, a=0.05, sure=0.9):
    "How often promises are broken, and warned of, when the gaps are not like the known products."
    found = {}
    for at, (name, (mix, harder)) in enumerate(SHIFTS.items()):
        rows = []
        for number in range(draws):
            rng = np.random.default_rng([200 + at, number])
            x, r, category = shop(rng, n, 0.2, 1.0)
            wrong = (rng.random(n) < r).astype(float)
            fit = cross_fit(x, wrong, np.arange(n), seed=number)
            promise = make_promise(fit.out_of_fold, wrong, a, sure)
            y, s, kinds = shop(rng, 1000, mix, harder)
            c = predict_confidence(fit, y)
            known = pd.DataFrame({"category": category, "confidence": fit.out_of_fold})
            told = shift_warning(known, pd.DataFrame({"category": kinds, "confidence": c})) != ""
            y, s, _ = shop(rng, 4000, mix, harder)
            filled = predict_confidence(fit, y) >= promise.threshold
            rows.append(
                (
                    promise.promised,
                    filled.any() and s[filled].mean() > a,
                    s[filled].mean() if filled.any() else np.nan,
                    told,
                    s.mean(),
                )
            )
        made, broken, risk, told, base = np.array(rows, dtype=float).T
        found[name] = {
            "promised": made.mean(),
            "broken": broken.mean(),
            "risk_of_filled": np.nanmean(risk),
            "risk_of_all": base.mean(),
            "warned": told.mean(),
            "shops": draws,
        }
        print(name, {k: round(float(v), 3) for k, v in found[name].items()}, flush=True)
    return found


def signals():
    "Ask every stand-in about the test products of the embedded catalogue, judge what it says, and store both."
    import tempfile

    from mmpc_analysis.catalogue.items import load_catalogue
    from mmpc_analysis.fill.risks import judge_risk
    from mmpc_analysis.fill.signals import ask_suggestions

    shop = load_catalogue()
    items, parts = shop.items[shop.items["split"].isin(["test", "unseen"])].reset_index(drop=True), []
    cells = items[["item_id", "category", "brand", "description", "keywords", "parent_id"]]
    for name in STANDINS:
        with tempfile.TemporaryDirectory() as out:
            asked = ask_suggestions(
                items, name, root=shop.root, out=out, titles=shop.items, progress=False, samples=4
            )
        parts.append(judged(asked, items, cells, shop.items, judge_risk))
        print(name, parts[-1][[f"wrong_{risk}" for risk in RISKS]].mean().round(3).to_dict(), flush=True)
    pd.concat(parts, ignore_index=True).to_parquet(SIGNALS_FILE, index=False, compression="zstd")


def judged(asked, items, cells, titles, judge_risk):
    "The signals of one model, and in which ways its suggestions are wrong."
    part = asked[["item_id", "model", "suggestion", *NAMES]].copy()
    part[list(NAMES)] = part[list(NAMES)].astype("float32")
    part["parent_id"], part["category"] = items["parent_id"].to_numpy(), items["category"].to_numpy()
    for risk in RISKS:
        wrong = judge_risk(risk, asked["suggestion"], items["title"], cells, titles)
        part[f"wrong_{risk}"] = np.asarray(wrong, dtype="float32")
    return part


def tuned(score, wrong, a):
    "The least score at which no more than `a` of the known ones above are wrong, which is what a shop might do."
    order = np.argsort(-score, kind="stable")
    share = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    last = np.append(np.diff(score[order]) != 0, True)  # Ties come in together
    good = np.flatnonzero((share <= a) & last)
    return score[order][good[-1]] if len(good) else np.inf


def split_once(part, risk, a, sure, rng, seed):
    "Deal listing groups into known ones and gaps, one product of each; what every way fills, and how much of it is wrong."
    shuffled = part.iloc[rng.permutation(len(part))].drop_duplicates("parent_id")
    half = len(shuffled) // 2
    known, gaps = shuffled.iloc[:half], shuffled.iloc[half:]
    wrong, truth = known[f"wrong_{risk}"].to_numpy(float), gaps[f"wrong_{risk}"].to_numpy(float)
    fit = cross_fit(known[list(NAMES)].to_numpy(float), wrong, known["parent_id"].to_numpy(), seed=seed)
    confidence = predict_confidence(fit, gaps[list(NAMES)].to_numpy(float))
    promise, said = make_promise(fit.out_of_fold, wrong, a, sure), ~np.isnan(wrong)
    ways = {"promise": confidence >= promise.threshold, "always": np.ones(len(gaps), dtype=bool)}
    ways["tuned confidence"] = confidence >= tuned(fit.out_of_fold[said], wrong[said], a)
    for name in ("logprob", "agreement"):
        ways[f"tuned {name}"] = gaps[name].to_numpy(float) >= tuned(
            known[name].to_numpy(float)[said], wrong[said], a
        )
    ways["all samples agree"] = gaps["agreement"].to_numpy(float) >= 0.999
    row = {}
    for name, filled in ways.items():
        some = filled & ~np.isnan(truth)
        row[name] = (filled.mean(), some.sum(), truth[some].sum())
    most = (
        most_wrong(promise.wrong, promise.accepted, int(row["promise"][1]), sure) if promise.promised else 0
    )
    return row, promise.promised, row["promise"][2] <= most


def splits(draws=500, sure=0.9, models=STANDINS):
    "500 random shops of each stand-in."
    table, found = pd.read_parquet(SIGNALS_FILE), {}
    for model in models:
        part = table[table["model"] == model]
        for risk, a in (("title", 0.3), ("number", 0.05), ("type", 0.3), ("brand", 0.3)):
            rng = np.random.default_rng([300, STANDINS.index(model), RISKS.index(risk)])
            rows = [split_once(part, risk, a, sure, rng, number) for number in range(draws)]
            ways = {}
            for name in rows[0][0]:
                coverage, filled, wrong = np.array([row[name] for row, _, _ in rows], dtype=float).T
                share = np.divide(wrong, filled, out=np.full(draws, np.nan), where=filled > 0)
                ways[name] = {
                    "coverage": coverage.mean(), "filled_any": (filled > 0).mean(), "above": (share > a).mean(),
                    "wrong": wrong.sum() / filled.sum() if filled.sum() else None,
                }  # fmt: skip
            made, within = (np.array([row[at] for row in rows]) for at in (1, 2))
            row = {
                "max_wrong": a,
                "base": float(part[f"wrong_{risk}"].mean()),
                "judged": int(part[f"wrong_{risk}"].notna().sum()),
            }
            row |= {
                "promised": made.mean(),
                "within_count": within[made].mean() if made.any() else None,
                "ways": ways,
            }
            row |= areas(part, risk)
            found[f"{model} | {risk}"] = row
            print(
                model,
                risk,
                a,
                f"base {row['base']:.3f} promised {row['promised']:.3f}",
                {
                    k: (round(v["coverage"], 3), v["wrong"] and round(v["wrong"], 3), round(v["above"], 3))
                    for k, v in ways.items()
                },
                flush=True,
            )
    return {"draws": draws, "sure": sure, "rows": found}


def areas(part, risk, draws=500):
    "Areas under risk and coverage of fused and single signals, on all products, and paired intervals over listing groups."
    wrong, groups = part[f"wrong_{risk}"].to_numpy(float), part["parent_id"].to_numpy()
    fused = cross_fit(part[list(NAMES)].to_numpy(float), wrong, groups).out_of_fold
    scores = {"confidence": fused, **{name: part[name].to_numpy(float) for name in NAMES}}
    row = {"aurc": {name: aurc(score, wrong) for name, score in scores.items()}}
    row["excess"] = {name: excess_aurc(score, wrong) for name, score in scores.items()}
    row["against"] = {
        name: aurc_difference(fused, scores[name], wrong, groups, draws) for name in ("logprob", "agreement")
    }
    return row


def plain(value):
    "Numbers as JSON takes them, to six digits."
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(f"{value:.6g}")
    return int(value) if isinstance(value, np.integer) else value


def main(what="simulate"):
    if what == "signals":
        return signals()
    stored = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    if what == "simulate":
        stored |= {
            "simulated": simulate(),
            "worst_start": worst_start(),
            "shifts": shifts(),
            "code": code_fingerprint(*CODE),
        }
    else:
        stored |= {"splits": splits(), "splits_code": code_fingerprint(*CODE)}
    stored["versions"] = {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "pandas": pd.__version__,
    }
    OUT.write_text(json.dumps(plain(stored), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
