"""Do attributions know biology? The regulators that a model scores, against what is known.

    python -m benchmarks.regulator_biology ../shared/data [--retrain 1 --retrain 2 --retrain 3]

Writes the tables and figures of docs/attribution-biology/ and the tables of
docs/attribution-biology.md, and prints those. DATA is the folder with
expression/gtex_tissue_log2tpm.tsv.gz. Definitions are on the page; they, and the lists below, were
fixed before the first run. With --retrain, networks with other seeds are trained by the model's
recipe and compared with the published one; without, networks.tsv stays as it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

import decode_zoo as dz
from benchmarks.regulator_figures import (
    draw_examples,
    draw_heatmap,
    draw_masters,
    draw_rhos,
    save,
)
from benchmarks.regulator_page import FOLDER, PAGE, page_tables, with_tables
from benchmarks.regulator_profiles import OwnExpression, Profiles, organ_of
from conversion.gtex_tissue_decode_v1 import SELECTION
from decode_zoo.attribution.scores import Summary
from decode_zoo.training.fit import FitConfig
from decode_zoo.training.pipeline import Description, train_bundle
from decode_zoo.zoo.model import Model

PERMUTATIONS = 10_000
EXPRESSION_PERMUTATIONS = 1_000
LEVEL = 0.05
# Regulators with fewer bound genes on chr1 have no tissue profile there worth comparing.
LEAST_BOUND = 10
CLASSES = ("TF", "RBP", "miRNA")
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BLOOD = ("Whole_Blood", "Spleen", "Cells_EBV_transformed_lymphocytes")
CELLS = ("Cells_EBV_transformed_lymphocytes", "Cells_Transformed_fibroblasts")
STRIATED = ("Heart", "Muscle_Skeletal")
SMOOTH = (
    "Artery",
    "Bladder",
    "Colon_Sigmoid",
    "Esophagus_Gastroesophageal_Junction",
    "Esophagus_Muscularis",
)
GUT = ("Colon_Transverse", "Kidney_Cortex", "Liver", "Small_Intestine_Terminal_Ileum")


@dataclass(frozen=True)
class Expectation:
    """A regulator that should score in known organs.

    Attributes
    ----------
    kind : {"TF", "RBP", "miRNA"}
    regulator : str
        As the tracks name it; a miRNA's seed.
    label : str
    organs : tuple of str
    sign : {1, -1}
        Of the score of bound genes there.
    reason : str
        In a word.
    """

    kind: str
    regulator: str
    label: str
    organs: tuple[str, ...]
    sign: int
    reason: str


def _listed(
    kind: str, names: str, organs: Iterable[str], reason: str, sign: int = 1
) -> list[Expectation]:
    """Expectations of several regulators, written SEED:NAME where they are called otherwise."""
    pairs = [name.partition(":") for name in names.split()]
    return [
        Expectation(kind, name, f"{label} ({name})" if label else name, tuple(organs), sign, reason)
        for name, _, label in pairs
    ]


# miRNA seeds are nucleotides 2 to 8 of the mature form (miRBase), and of the second form where
# TargetScan has two.
EXPECTED = (
    # REST silences neuronal genes everywhere but in brain, so its targets are high in brain.
    *_listed("TF", "REST", ["Brain"], "derepression"),
    *_listed("TF", "HNF4A HNF1A FOXA1 FOXA2 CEBPA CEBPB", ["Liver"], "hepatocytes"),
    *_listed("TF", "SPI1 RUNX3 IRF4 BATF EBF1 PAX5", BLOOD, "lymphoid"),
    *_listed("TF", "GATA1 TAL1 KLF1", ["Whole_Blood"], "erythroid"),
    *_listed("TF", "MYC MAX", CELLS, "proliferation"),
    *_listed("TF", "MEF2A MEF2C MYOD1 MYOG", STRIATED, "myogenic"),
    *_listed("TF", "GATA4 NKX2-5 TBX5", ["Heart"], "cardiac"),
    *_listed("TF", "NR5A1", ["Adrenal_Gland"], "steroidogenic"),
    *_listed("TF", "PPARG", ["Adipose"], "adipogenic"),
    *_listed("TF", "PTF1A", ["Pancreas"], "acinar"),
    *_listed("TF", "SOX10", ["Nerve_Tibial"], "glial"),
    *_listed("TF", "TP63", ["Skin"], "epidermal"),
    *_listed("RBP", "QKI", ["Brain"], "glial"),
    *_listed("RBP", "RBFOX2", ("Brain", *STRIATED), "splicing"),
    # ELAVL1 binds what the neuronal ELAVLs stabilise.
    *_listed("RBP", "ELAVL1 ELAVL2 ELAVL4", ["Brain"], "stabilising"),
    *_listed("RBP", "FMR1", ["Brain"], "stabilising"),
    # Neurons lack PTBP1, which silences neuronal RNAs elsewhere.
    *_listed("RBP", "PTBP1", ["Brain"], "derepression"),
    *_listed("RBP", "NOVA1 CELF4 RBFOX1 RBFOX3", ["Brain"], "neuronal"),
    *_listed("RBP", "FXR1 RBM20", STRIATED, "striated"),
    *_listed("miRNA", "GGAGUGU:miR-122", ["Liver"], "hepatocytes", -1),
    *_listed(
        "miRNA",
        "AAGGCAC:miR-124 UAAGGCA:miR-124 CUUUGGU:miR-9 CACAGUG:miR-128 GAUUGUC:miR-219",
        ["Brain"],
        "neural",
        -1,
    ),
    *_listed(
        "miRNA",
        "GGAAUGU:miR-1 UUGGUCC:miR-133 UGGUCCC:miR-133 UAAGACU:miR-499",
        STRIATED,
        "myogenic",
        -1,
    ),
    *_listed("miRNA", "UAAGACG:miR-208", ["Heart"], "cardiac", -1),
    *_listed(
        "miRNA",
        "GUAGUGU:miR-142-3p UAGUGUU:miR-142-3p AUAAAGU:miR-142-5p",
        BLOOD,
        "haematopoietic",
        -1,
    ),
    *_listed("miRNA", "GUCAGUU:miR-223", ["Whole_Blood"], "myeloid", -1),
    *_listed("miRNA", "AACCGUU:miR-451", ["Whole_Blood"], "erythroid", -1),
    *_listed("miRNA", "CUCCCAA:miR-150", ("Whole_Blood", "Spleen"), "lymphocytes", -1),
    *_listed("miRNA", "UAAUGCU:miR-155", ["Cells_EBV_transformed_lymphocytes"], "EBV", -1),
    *_listed("miRNA", "UUGUUCG:miR-375", ("Pancreas", "Pituitary"), "endocrine", -1),
    *_listed("miRNA", "GGAAGAC:miR-7", ["Pituitary"], "endocrine", -1),
    *_listed(
        "miRNA", "UGAAAUG:miR-203 GAAAUGU:miR-203", ("Skin", "Esophagus_Mucosa"), "squamous", -1
    ),
    *_listed("miRNA", "UGACCUA:miR-192 GUAACAG:miR-194", GUT, "epithelial", -1),
    *_listed("miRNA", "GAGAUGA:miR-143 UCCAGUU:miR-145", SMOOTH, "smooth-muscle", -1),
    *_listed("miRNA", "AAUCUCA:miR-216a ACUGCAU:miR-217", ["Pancreas"], "acinar", -1),
)

# Names of assays that the gene index does not know; of one gene each.
ALIASES = {"SIN3AK20": "SIN3A", "KIAA2018": "USF3"}


# -- scores ----------------------------------------------------------------------------------


def score_genes(model: Model, tissues: tuple[str, ...], rows: IntArray) -> Profiles:
    """Explain genes, some at a time, and add up."""
    explainer = model.explainer(by="regulator", outputs=tissues)
    parts = [explainer.explain(rows[i : i + 2048]) for i in range(0, rows.size, 2048)]
    first, *others = (Summary.of(part) for part in parts)
    whole = sum(others, first)
    kept = ~explainer.resolution.is_mask
    return Profiles(
        tissues,
        explainer.resolution.features[kept].astype(str).reset_index(drop=True),
        Summary(
            whole.n_genes,
            whole.total[kept],
            whole.absolute[kept],
            whole.present[kept],
            whole.variance[kept],
            whole.n_several,
        ),
    )


def joined(a: Profiles, b: Profiles) -> Profiles:
    """Profiles over the genes of both."""
    return Profiles(a.tissues, a.regulators, a.summary + b.summary)


# -- master regulators -----------------------------------------------------------------------


def percent_below(value: float, others: FloatArray) -> float:
    """Percent of others that are lower; equal ones count half."""
    return float(50 * ((others < value).mean() + (others <= value).mean()))


def percent_of_ranks(ranks: FloatArray, chosen: IntArray) -> FloatArray:
    """Percent of (chosen, other) pairs in which the chosen is higher.

    Parameters
    ----------
    ranks : ndarray of float64, shape (n,)
    chosen : ndarray of int64, shape (..., k)
    """
    n, k = ranks.size, chosen.shape[-1]
    pairs: FloatArray = ranks[chosen].sum(axis=-1) - k * (k + 1) / 2
    return 100 * pairs / (k * (n - k))


def verdict(p_tissue: float, p_regulator: float) -> str:
    """Say in a word which of the two tests at the 5% level a regulator passes."""
    passed = (p_tissue <= LEVEL, p_regulator <= LEVEL)
    return {(True, True): "both", (True, False): "tissue", (False, True): "regulator"}.get(
        passed, "neither"
    )


@dataclass(frozen=True)
class MasterTest:
    """One expectation against both nulls.

    Attributes
    ----------
    row : dict
        Line of masters.tsv.
    tissue_null : ndarray of float64, shape (PERMUTATIONS,)
        Tissue percentile with permuted organs; the same permutations for all expectations.
    values, pool : ndarray
        Signed score in the expected organs of all regulators, and which ones have about as many
        bound genes, itself not among them.
    """

    row: dict[str, object]
    tissue_null: FloatArray
    values: FloatArray
    pool: IntArray


def compare_master(
    expected: Expectation, profiles: Profiles, genes: str, permuted: IntArray
) -> MasterTest:
    """Compare a regulator with organs that were not expected, and with other regulators."""
    names, average = profiles.organs()
    of_class = profiles.where(expected.kind)
    own = int(of_class[profiles.regulators["regulator"].iloc[of_class] == expected.regulator][0])
    others = of_class[of_class != own]
    n_bound = profiles.summary.present
    chosen = np.array([names.index(organ) for organ in expected.organs])

    def in_organs(scores: FloatArray, sign: int = expected.sign) -> FloatArray:
        return sign * (scores @ average)[:, chosen].mean(axis=1)

    all_genes, bound, absolute = (
        in_organs(profiles.mean),
        in_organs(profiles.mean_bound),
        in_organs(profiles.mean_abs, 1),
    )
    distance = np.abs(np.log1p(n_bound[others]) - np.log1p(n_bound[own]))
    pool = others[np.argsort(distance, kind="stable")[: round(len(others) / 4)]]
    p_regulator = (1 + int((bound[pool] >= bound[own]).sum())) / (1 + pool.size)
    signed = expected.sign * profiles.mean[own]
    ranks = stats.rankdata(signed @ average)
    tissue = float(percent_of_ranks(ranks, chosen))
    tissue_null = percent_of_ranks(ranks, permuted[:, chosen])
    # The last digit of a sum of ranks must not decide.
    p_tissue = (1 + int((tissue_null >= tissue - 1e-9).sum())) / (1 + len(permuted))
    expected_tissues = [organ_of(t) in expected.organs for t in profiles.tissues]
    row = {
        "genes": genes,
        "class": expected.kind,
        "regulator": expected.regulator,
        "label": expected.label,
        "organs": ",".join(expected.organs),
        "expected_sign": expected.sign,
        "reason": expected.reason,
        "n_bound": n_bound[own],
        "mean_bound": expected.sign * bound[own],
        "sign_as_expected": "yes" if bound[own] > 0 else "no",
        "percentile_mean": percent_below(all_genes[own], all_genes[others]),
        "percentile_bound": percent_below(bound[own], bound[others]),
        "percentile_abs": percent_below(absolute[own], absolute[others]),
        "percentile_matched": percent_below(bound[own], bound[pool]),
        "n_matched": pool.size,
        "p_regulator": p_regulator,
        "best_tissue_rank": int(stats.rankdata(-signed, "min")[expected_tissues].min()),
        "percentile_tissue": tissue,
        "null_low": np.quantile(tissue_null, 0.05),
        "null_high": np.quantile(tissue_null, 0.95),
        "p_tissue": p_tissue,
        "verdict": verdict(p_tissue, p_regulator),
    }
    return MasterTest(row, tissue_null, bound, pool)


def compare_set(
    name: str, genes: str, tests: list[MasterTest], rng: np.random.Generator
) -> dict[str, object]:
    """Test expectations together; those of one class and the same organs count as one group."""
    groups: dict[tuple[object, ...], list[MasterTest]] = {}
    for test in tests:
        groups.setdefault((test.row["class"], test.row["organs"]), []).append(test)

    def mean_of_groups(value: Callable[[MasterTest], npt.ArrayLike]) -> FloatArray:
        means = [np.mean([value(test) for test in group], axis=0) for group in groups.values()]
        return np.asarray(np.mean(means, axis=0))

    # One regulator stands for a whole group: its members bind the same promoters, and as many
    # independent draws as members would make the null too narrow.
    drawn = np.empty((PERMUTATIONS, len(groups)))
    for column, group in enumerate(groups.values()):
        draws = np.concatenate(
            [
                [
                    percent_below(test.values[i], test.values[test.pool[test.pool != i]])
                    for i in test.pool
                ]
                for test in group
            ]
        )
        drawn[:, column] = rng.choice(draws, PERMUTATIONS)
    row: dict[str, object] = {"genes": genes, "set": name, "n": len(tests), "groups": len(groups)}
    for what, null in (
        ("tissue", mean_of_groups(lambda test: test.tissue_null)),
        ("matched", drawn.mean(axis=1)),
    ):
        observed = float(mean_of_groups(lambda test, w=what: test.row[f"percentile_{w}"]))
        row |= {
            f"percentile_{what}": observed,
            f"null_high_{what}": np.quantile(null, 0.95),
            f"p_{what}": (1 + int((null >= observed - 1e-9).sum())) / (1 + PERMUTATIONS),
        }
    return row


def compare_masters(
    profiles: Mapping[str, Profiles], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Test what is expected: tables of regulators, of sets, and of what has no track."""
    known = set(profiles["all"].regulators.itertuples(index=False, name=None))
    present = [e for e in EXPECTED if (e.kind, e.regulator) in known]
    absent = [e for e in EXPECTED if (e.kind, e.regulator) not in known]
    masters, sets = [], []
    for genes, own in profiles.items():
        rng = np.random.default_rng(seed)
        n_organs = len(own.organs()[0])
        permuted = rng.permuted(np.tile(np.arange(n_organs), (PERMUTATIONS, 1)), axis=1)
        tests = [compare_master(expected, own, genes, permuted) for expected in present]
        masters += [test.row for test in tests]
        for name in ("all", *CLASSES):
            chosen = [test for test in tests if name in ("all", test.row["class"])]
            sets.append(compare_set(name, genes, chosen, rng))
    return (
        pd.DataFrame(masters),
        pd.DataFrame(sets),
        pd.DataFrame(
            [(e.kind, e.regulator, e.label, ",".join(e.organs)) for e in absent],
            columns=["class", "regulator", "label", "organs"],
        ),
    )


# -- regulators' own expression (the paper's figure 3e) --------------------------------------


def own_genes(model: Model, regulators: pd.DataFrame, expression: pd.DataFrame) -> pd.DataFrame:
    """Find the gene of each TF and RBP; what has none, and why."""
    table = regulators[regulators["class"].isin(["TF", "RBP"])].copy()
    features = model.features
    found = features.index.resolve([ALIASES.get(name, name) for name in table["regulator"]])
    table["gene_id"], table["symbol"] = found.gene_ids, found.symbols
    varies = expression.index[expression.nunique(axis=1) > 1]
    table["lost"] = ""
    for i, (row, status) in enumerate(zip(found.rows, found.status, strict=True)):
        # Two names of one gene, and a regulator of both classes, are tested each on its own.
        gene, why = found.gene_ids[i], ""
        if row < 0:
            why = status.replace("_", " ")
        elif gene not in expression.index:
            chrom = features.rows.chroms[features.row(gene)]
            why = "chr8, no expression" if chrom == "8" else "no expression"
        elif gene not in varies:
            why = "expression does not vary"
        table.iloc[i, table.columns.get_loc("lost")] = why
    return table


def ranked(values: FloatArray) -> FloatArray:
    """Rows as ranks of mean zero and length one, so that products are Spearman's rho."""
    ranks = stats.rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(ranks, axis=1, keepdims=True)
    return np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)


def p_of_rho(rho: FloatArray, n: int) -> FloatArray:
    """Two-sided p-values of rank correlations, by the t distribution as scipy has it."""
    t = rho * np.sqrt((n - 2) / np.maximum((1 - rho) * (1 + rho), 1e-12))
    return np.asarray(2 * stats.t.sf(np.abs(t), n - 2))


def count_significant(rho: FloatArray, n: int) -> int:
    """Number significant at 5% after Benjamini and Hochberg."""
    return int((stats.false_discovery_control(p_of_rho(rho, n)) <= LEVEL).sum())


def correlate(
    genes: str,
    kind: str,
    mapped: pd.DataFrame,
    scores: FloatArray,
    expression: FloatArray,
    rng: np.random.Generator,
) -> OwnExpression:
    """Correlate across tissues, and again under both controls.

    Parameters
    ----------
    mapped : DataFrame
        The regulators.
    scores, expression : ndarray of float64, shape (n_regulators, n_tissues)
    """
    a, b = ranked(scores), ranked(expression)
    n = a.shape[1]
    rho = (a * b).sum(axis=1)
    p = p_of_rho(rho, n)
    q = stats.false_discovery_control(p)
    permuted = {
        "tissues": [
            (a * b[:, rng.permutation(n)]).sum(axis=1) for _ in range(EXPRESSION_PERMUTATIONS)
        ],
        "regulators": [
            (a * b[rng.permutation(len(b))]).sum(axis=1) for _ in range(EXPRESSION_PERMUTATIONS)
        ],
    }
    significant = q <= LEVEL
    control: dict[str, object] = {
        "genes": genes,
        "class": kind,
        "n": len(rho),
        "significant": int(significant.sum()),
        "positive": int((significant & (rho > 0)).sum()),
        "negative": int((significant & (rho < 0)).sum()),
        "median_rho": float(np.median(rho)),
    }
    for name, rhos in permuted.items():
        counts = np.array([count_significant(r, n) for r in rhos])
        medians = np.median(rhos, axis=1)
        at_least = int((counts >= significant.sum()).sum())
        control |= {
            f"{name}_mean": counts.mean(),
            f"{name}_q95": np.quantile(counts, 0.95),
            f"{name}_p": (1 + at_least) / (1 + len(counts)),
            f"{name}_median_rho_q05": np.quantile(medians, 0.05),
            f"{name}_median_rho_q95": np.quantile(medians, 0.95),
        }
    observed = int(significant.sum())
    control["empirical_fdr"] = control["regulators_mean"] / observed if observed else np.nan
    table = mapped[["class", "regulator", "gene_id", "symbol"]].copy()
    table.insert(0, "genes", genes)
    table["rho"], table["p"], table["q"] = rho, p, q
    table["significant"] = np.where(significant, "yes", "no")
    return OwnExpression(table, control, {name: np.array(r) for name, r in permuted.items()})


def choose_examples(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Choose listed TFs to show: of highest and lowest rho, and the lowest activator."""
    reasons = {e.regulator: e.reason for e in EXPECTED if e.kind == "TF"}
    own = table[(table["class"] == "TF") & table["regulator"].isin(reasons)].sort_values("rho")
    activators = own[own["regulator"].map(reasons) != "derepression"]
    return {
        "highest": own.iloc[-1],
        "lowest": own.iloc[0],
        "lowest_activator": activators.iloc[0],
    }


# -- replication and collinearity ------------------------------------------------------------


def compare_profiles(first: Profiles, second: Profiles) -> pd.DataFrame:
    """Compare regulators' tissue profiles between two sets of genes, or two networks.

    Regulators with too few bound genes in either are left out.
    """
    rows = []
    enough = np.minimum(first.summary.present, second.summary.present) >= LEAST_BOUND
    for kind in CLASSES:
        own = np.intersect1d(first.where(kind), np.flatnonzero(enough))
        x, y = first.mean[own], second.mean[own]
        rho = ranked(x) @ ranked(y).T
        same = np.eye(own.size, dtype=bool)
        among = ranked(y) @ ranked(y).T
        rows.append(
            {
                "class": kind,
                "n": own.size,
                "rho_all_entries": stats.spearmanr(x.ravel(), y.ravel()).statistic,
                "median_rho_same_regulator": np.median(rho[same]),
                "median_rho_other_regulator": np.median(rho[~same]),
                "percent_recognised": 100 * (rho.argmax(axis=1) == np.arange(own.size)).mean(),
                "median_abs_rho_between_regulators": np.median(np.abs(among[~same])),
            }
        )
    return pd.DataFrame(rows)


def collinearity(model: Model, rows: IntArray, cell: str = "HepG2") -> dict[str, float]:
    """How alike tracks are, as bound or not bound, over genes: TFs of a cell line, miR-124."""
    tracks = model.manifest.inputs["promoter"].tracks
    names = [track.name for track in tracks if track.cell == cell]
    features = model.features
    columns = features.columns("promoter", names)
    bound = (features.sums("promoter")[0][rows][:, columns] > 0).toarray().astype(float)
    phi = np.corrcoef(bound.T)
    per_gene = np.sort(bound.sum(axis=1))[::-1]
    seeds = features.columns(
        "rna",
        [
            t.name
            for t in model.manifest.inputs["rna"].tracks
            if t.regulator in ("AAGGCAC", "UAAGGCA")
        ],
    )
    of_seeds = features.sums("rna")[0][rows][:, seeds] > 0
    both, either = (of_seeds.sum(axis=1) >= least for least in (2, 1))
    return {
        f"tracks_{cell}": len(names),
        f"median_phi_{cell}": float(np.median(phi[np.triu_indices(len(names), 1)])),
        f"first_component_percent_{cell}": 100 * float(np.linalg.eigvalsh(phi)[-1] / len(names)),
        f"top_tenth_of_genes_percent_{cell}": 100
        * float(per_gene[: round(len(rows) / 10)].sum() / per_gene.sum()),
        "shared_genes_percent_miR124": 100 * float(both.sum() / either.sum()),
    }


# -- the study -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Genes:
    """The genes that are explained, and how they are expressed.

    Attributes
    ----------
    tissues : tuple of str
    rows : ndarray of int64, shape (n,)
        In the feature set.
    on_chr1 : ndarray of bool, shape (n,)
    fold : DataFrame
        log2 fold changes against the median, gene ids × tissues.
    """

    tissues: tuple[str, ...]
    rows: IntArray
    on_chr1: npt.NDArray[np.bool_]
    fold: pd.DataFrame

    @classmethod
    def of(cls, model: Model, expression: pd.DataFrame) -> Genes:
        """Take the genes of the table that have features."""
        features = model.features
        tissues = tuple(o.name for o in model.manifest.outputs if o.kind == "fold_change")
        table = expression[list(tissues)]
        found = features.index.resolve(list(table.index))
        rows = np.sort(found.rows[found.rows >= 0])
        on_chr1 = np.array([features.rows.chroms[row] == "1" for row in rows])
        return cls(tissues, rows, on_chr1, table.sub(table.median(axis=1), axis=0))

    def profiles(self, model: Model) -> tuple[Profiles, Profiles]:
        """Score the genes of chr1, and the others."""
        return (
            score_genes(model, self.tissues, self.rows[self.on_chr1]),
            score_genes(model, self.tissues, self.rows[~self.on_chr1]),
        )


@dataclass(frozen=True)
class Study:
    """What the attributions of one network say.

    Attributes
    ----------
    masters, sets, absent, mapped : DataFrame
    correlated : dict of (genes, class) to OwnExpression
    """

    masters: pd.DataFrame
    sets: pd.DataFrame
    absent: pd.DataFrame
    mapped: pd.DataFrame
    correlated: dict[tuple[str, str], OwnExpression]

    @classmethod
    def of(cls, model: Model, genes: Genes, profiles: Mapping[str, Profiles], seed: int) -> Study:
        """Make all tests, over each set of genes."""
        tests = compare_masters(profiles, seed)
        mapped = own_genes(model, profiles["all"].regulators, genes.fold)
        correlated = {}
        for name, own in profiles.items():
            for kind in ("TF", "RBP"):
                tested = mapped[(mapped["class"] == kind) & (mapped["lost"] == "")]
                correlated[name, kind] = correlate(
                    name,
                    kind,
                    tested,
                    own.mean[tested.index],
                    genes.fold.loc[tested["gene_id"]].to_numpy(),
                    np.random.default_rng(seed),
                )
        return cls(*tests, mapped, correlated)


def retrain(model: Model, data: Path, folder: Path, seed: int) -> Model:
    """Train the model's recipe with one other seed."""
    recipe = model.manifest.training
    about = Description("other-seed", f"seed {seed}", model.manifest.license, "", (), "", {}, ())
    targets = dz.make_targets(dz.read_expression(data))
    fit = FitConfig(**{**recipe["fit"], "seeds": (seed,)})
    return train_bundle(model.features, targets, folder, about, fit=fit, selection=SELECTION)


def compare_networks(
    model: Model,
    data: Path,
    genes: Genes,
    published: Profiles,
    own: Study,
    retrained: Iterable[int],
    seed: int,
) -> pd.DataFrame:
    """Study networks of other seeds, and compare their profiles with the published one's."""
    studies = [(model.manifest.training.best_seed, published, own)]
    with tempfile.TemporaryDirectory() as folder:
        for other in retrained:
            network = retrain(model, data, Path(folder) / str(other), other)
            profiles = joined(*genes.profiles(network))
            study = Study.of(network, genes, {"all": profiles}, seed)
            studies.append((other, profiles, study))
    rows = []
    for number, profiles, study in studies:
        alike = compare_profiles(published, profiles).set_index("class")
        sets = study.sets.query("genes == 'all'").set_index("set")
        passed = study.masters.query("genes == 'all' and verdict == 'both'")
        for kind in CLASSES:
            control = study.correlated["all", kind].control if kind != "miRNA" else {}
            rows.append(
                {"seed": number, "class": kind, **alike.loc[kind]}
                | sets.loc[
                    kind, ["percentile_tissue", "p_tissue", "percentile_matched", "p_matched"]
                ].to_dict()
                | {
                    what: control.get(what, "")
                    for what in ("significant", "regulators_mean", "regulators_p")
                }
                | {"passes_both": ",".join(passed.loc[passed["class"] == kind, "label"])}
            )
    return pd.DataFrame(rows)


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "model_id", default="gtex-tissue-decode-v1", show_default=True)
@click.option("--retrain", "retrained", type=int, multiple=True, help="Seed of another network.")
@click.option("--seed", default=0, show_default=True, help="Of the permutations.")
def main(data: Path, model_id: str, retrained: tuple[int, ...], seed: int) -> None:
    """Write tables, figures and the tables of the page."""
    model = dz.load(model_id)
    table = data / "expression/gtex_tissue_log2tpm.tsv.gz"
    genes = Genes.of(model, dz.read_expression(table))
    chr1, others = genes.profiles(model)
    profiles = {"all": joined(chr1, others), "chr1": chr1}
    study = Study.of(model, genes, profiles, seed)
    correlated = study.correlated
    own_expression = pd.concat([each.table for each in correlated.values()])
    examples = choose_examples(own_expression.query("genes == 'all'"))
    facts = {
        "genes_all": len(genes.rows),
        "genes_chr1": int(genes.on_chr1.sum()),
        "organs": len(chr1.organs()[0]),
        "permutations": PERMUTATIONS,
        "expression_permutations": EXPRESSION_PERMUTATIONS,
        **collinearity(model, genes.rows),
        **{f"example_{what}": row["regulator"] for what, row in examples.items()},
    }
    tables = {
        "masters": study.masters,
        "sets": study.sets,
        "absent": study.absent,
        "own_expression": own_expression,
        "own_expression_controls": pd.DataFrame([each.control for each in correlated.values()]),
        "unmapped": study.mapped.query("lost != ''")[["class", "regulator", "lost"]],
        "replication": compare_profiles(chr1, others),
        "facts": pd.DataFrame(
            [(name, f"{v:.4g}" if isinstance(v, float) else v) for name, v in facts.items()],
            columns=["name", "value"],
        ),
    }
    if retrained:
        tables["networks"] = compare_networks(
            model, table, genes, profiles["all"], study, retrained, seed
        )
    FOLDER.mkdir(exist_ok=True)
    for name, content in tables.items():
        content.to_csv(FOLDER / f"{name}.tsv", sep="\t", index=False, float_format="%.6g")
    save(draw_masters(study.masters), FOLDER / "masters.png")
    rhos = draw_rhos(correlated["all", kind] for kind in ("TF", "RBP"))
    save(rhos, FOLDER / "own-expression.png")
    save(draw_heatmap(profiles["all"]), FOLDER / "heatmap.png")
    scatter = draw_examples(examples.values(), profiles["all"], genes.fold)
    save(scatter, FOLDER / "examples.png")
    blocks = page_tables(FOLDER)
    for name, text in blocks.items():
        click.echo(f"== {name}\n{text}\n")
    click.echo(tables["facts"].to_csv(sep="\t", index=False))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), blocks), encoding="utf-8")


if __name__ == "__main__":
    main()
