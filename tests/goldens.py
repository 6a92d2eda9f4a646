"""Run the command line of two trees side by side and compare all that comes out, to the bit.

    python tests/goldens.py OLD_TREE NEW_TREE [--only NAME,…] [--work DIR] \\
        [--reuse-old DIR] [--words] [--list]

Predictions, scores, tables, JSON, arrays, weights and exit codes must be the same; how help,
errors, pages and pictures differ is listed apart. Each tree runs in the same folder (WORK/run,
renamed after it), with its own code and zoo/, an empty cache, no network and one thread, one
process a case.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
TISSUE, DECODE, PERSON = "gtex-tissue-v1", "gtex-tissue-decode-v1", "lcl-person-v1"
LIVER = "--outputs Liver,Whole_Blood"
SITES = "--tss data/tss.bed.gz --promoter data/promoter --rna data/rna --mirna data/mirna.bed.gz"
TARGETS = "--targets data/targets/chea_2016.symbols.gmt.gz --target-names {regulator}_{}"
TRAIN = (
    "train --features :build --expression in/tiny.tsv --scale log2tpm --license CC0-1.0"
    " --min-genes 2 --citation nobody --id toy-v1 --test-chrom 22 --repeats 1"
)

# Name of a case: arguments. '@' is the case's name, with which all that it writes begins; ':NAME'
# is what another case wrote, which runs before it. '< FILE' feeds standard input.
CASES: dict[str, str] = {
    # predict
    "predict": f"predict --model {TISSUE} in/list.txt -o @.tsv",
    "predict-gz": f"predict --model {TISSUE} in/genes.tsv {LIVER} -o @.tsv.gz",
    "predict-csv": "predict --model de-prior-v1 in/genes.tsv -o @.csv",
    "predict-parquet": f"predict --model {DECODE} in/list.txt -o @.parquet --backend numpy",
    "predict-h5ad": f"predict --model {TISSUE} in/list.txt -o @.h5ad --backend numpy",
    "predict-ort": f"predict --model {DECODE} in/list.txt -o @.parquet --backend onnxruntime",
    "predict-stdin": f"predict --model {PERSON} - < in/list.txt",
    "predict-own": f"predict --model {TISSUE} --features :build --all-genes"
    " --fill-missing -o @.parquet",
    # explain
    "explain": f"explain --model {TISSUE} in/list.txt {LIVER} -o @.tsv",
    "explain-decode": f"explain --model {DECODE} in/genes.tsv --outputs Liver"
    " --by track -o @.parquet",
    "explain-class": f"explain --model {TISSUE} in/genes.tsv --by class -o @.csv",
    "explain-track": f"explain --model {TISSUE} in/few.txt {LIVER} --by track --top 7 -o @.tsv.gz",
    "explain-position": f"explain --model {TISSUE} in/few.txt --outputs Liver"
    " --by position -o @.parquet",
    "explain-decode-position": f"explain --model {DECODE} in/few.txt --outputs Liver"
    " --by position -o @.tsv",
    "explain-summary": f"explain --model {TISSUE} in/genes.tsv --summary -o @.tsv",
    "explain-h5ad": f"explain --model {TISSUE} in/list.txt {LIVER} -o @.h5ad",
    "explain-background": f"explain --model {TISSUE} in/few.txt {LIVER} "
    "--background in/genes.tsv -o @.tsv",
    "explain-own": f"explain --model {TISSUE} in/tiny.txt --features :build --fill-missing {LIVER}",
    "explain-prior": "explain --model de-prior-v1 in/genes.tsv --summary -o @.tsv",
    # report
    "report": f"report --model {TISSUE} in/genes.tsv {LIVER} --title Toy -o @.html",
    # feature sets
    "build": f"features build --gtf data/genes.gtf.gz {SITES} -o @",
    "build-transcript": "features build --gtf data/genes.gtf.gz --level transcript --bin 50"
    " --boundary within --rna-strand ignore --rna data/rna.tsv --promoter data/promoter -o @",
    "build-like": f"features build --like :build {TARGETS} -o @",
    "merge": "features merge :build :build-like -o @",
    "features-info": "features info :build",
    "features-tracks": "features info hg38-open-v2 --tracks",
    "predict-merged": f"predict --model {TISSUE} --features :merge in/tiny.txt --fill-missing",
    # training
    "train": f"{TRAIN} --set epochs=3 -o @",
    "train-decode": f"{TRAIN} --family decode --kinds tf,rbp --set max_epochs=2 -o @",
    "train-predict": "predict --model :train --features :build in/tiny.txt -o @.tsv",
    "train-explain": "explain --model :train --features :build in/tiny.txt -o @.tsv",
    "train-test": "test :train --features :build",
    "train-info": "info :train",
    # cohorts
    "cohort": "cohort prepare data/cohort/counts.tsv.gz --quantity counts"
    " --persons data/cohort/persons.tsv --covariates batch -o @",
    "cohort-log2": "cohort prepare in/lcl.tsv --quantity log2 --no-length-bias --min-tpm 0.5 -o @",
    "finetune": "finetune :cohort --base gtex-liver-person-v1 --id my-v1 --set max_epochs=1"
    " --no-membership-check -o @",
    "finetune-predict": "predict --model :finetune in/genes.tsv -o @.tsv",
    "evaluate": f"evaluate :cohort --model {PERSON} --genes in/measured.txt -o @",
    "evaluate-tissue": f"evaluate in/tissue.tsv --model {TISSUE} --scale log2tpm -o @",
    # studies
    "knockout": f"study knockout --model {TISSUE} in/few.txt {LIVER} --double HNF4A,CEBPA -o @",
    "knockout-track": f"study knockout --model {DECODE} in/few.txt --outputs Liver --by track"
    " --format parquet -o @",
    "disrupt": f"study disrupt --model {TISSUE} in/few.txt --outputs Liver -o @",
    "pair": f"study pair LAPTM5,CD53 --model {PERSON} --model gtex-heart-person-v1 "
    "--removals 1500 -o @",
    "coexpression": f"study coexpression --model {PERSON} --expression :cohort --permutations 5"
    " --resamples 5 --genes in/measured.txt --pairs in/pairs.tsv --threshold 0.5 -o @",
    "mediation": "study mediation :cohort --pair UCHL5,GNL3 --regulators STAT1,RELA"
    " --draws 50 -o @",
    "enrich": "study enrich --model de-prior-v1 --scores :explain-prior.tsv --gmt in/sets.gmt"
    " --list in/few.txt --list-above in/above.tsv x 0.5 --permutations 200 --min-size 5 -o @",
    "signature": "study signature in/regulated.txt -o @",
    "signature-gmt": "study signature --gmt in/sets.gmt --regulators rna -o @.tsv",
    "signature-table": "study signature in/degs.tsv --direction up -o @.parquet",
    "traits": f"study traits --model {PERSON} :cohort --trait sex --covariates age --permutations 5"
    " --genes in/measured.txt -o @",
    "ablation": "study ablation in/tiny.tsv --scale log2tpm --features :build --test-chrom 22"
    " --min-genes 2 --set epochs=2 -o @",
    "report-study": f"report --model {TISSUE} in/few.txt {LIVER} --study :knockout -o @.html",
    # the zoo
    "ls": "ls",
    "info": f"info {TISSUE}",
    "info-features": "info hg38-open-v2",
    "fetch": f"fetch {PERSON}",
    "verify": f"verify {PERSON} {DECODE}",
    "verify-nothing": "verify nobody-v1",
    "test": f"test {DECODE} {PERSON}",
    "doctor": "doctor --json",
    "cache-path": "cache path",
    "cache-ls": "cache ls",
    "cache-clean": "cache clean",
    "cache-export": f"cache export @ {DECODE}",
    "cache-import": "cache import :cache-export",
    "publish-card": "publish :train",
    "publish": "publish data/toy/features/toy-sites-v1 --to @ --title Toy"
    " --license CC0-1.0 --citation nobody",
    "publish-model": "publish data/toy/models/toy-decode-v1 --to :publish",
    "version": "--version",
}
VERBS = """predict|explain|report|features|features build|features info|features merge|train|cohort|
cohort prepare|finetune|evaluate|study|study knockout|study disrupt|study pair|study coexpression|
study mediation|study enrich|study signature|study traits|study ablation|ls|info|fetch|verify|test|
doctor|cache|cache path|cache ls|cache clean|cache export|cache import|publish""".replace("\n", "")
CASES |= {f"help-{verb.replace(' ', '-')}": f"{verb} --help" for verb in VERBS.split("|")}
# Malformed calls and files: all end with an exit code and one error, none writes anything.
BAD = {
    "no-verb": "nothing",
    "no-option": f"predict --model {TISSUE} in/few.txt --bogus",
    "no-model": "predict --model nobody-v1 in/few.txt",
    "no-file": f"predict --model {TISSUE} in/absent.txt",
    "no-output": f"predict --model {TISSUE} in/few.txt --outputs Livre",
    "exists": f"predict --model {TISSUE} in/few.txt -o in/few.txt",
    "cuda": f"predict --model {TISSUE} in/few.txt --device cuda",
    "lacking-tracks": f"predict --model {TISSUE} in/tiny.txt --features :build",
    "binary-list": f"predict --model {TISSUE} in/binary.txt",
    "gzip-broken": f"predict --model {TISSUE} in/broken.txt.gz",
    "bundle-json": "predict --model in/bad-json in/few.txt",
    "bundle-weights": "predict --model in/bad-weights in/few.txt",
    "bundle-onnx": "predict --model in/bad-onnx in/few.txt",
    "bundle-answers": "test in/bad-answers",
    "features-json": "features info in/bad-features",
    "top-zero": f"explain --model {TISSUE} in/few.txt --top 0",
    "report-study": f"report --model {TISSUE} in/few.txt --study data -o @.html",
    "gtf-wrong": "features build --gtf data/rna.tsv --promoter data/promoter -o @",
    "bed-wrong": "features build --gtf data/genes.gtf.gz --promoter in/bad.bed -o @",
    "merge-differs": "features merge :build hg38-open-v2 -o @",
    "train-columns": TRAIN.replace("in/tiny.tsv", "in/words.tsv") + " -o @",
    "train-set": f"{TRAIN} --set nonsense=1 -o @",
    "train-chrom": TRAIN.replace("--test-chrom 22", "--test-chrom X") + " -o @",
    "cohort-negative": "cohort prepare in/negative.tsv --quantity counts -o @",
    "cohort-persons": "cohort prepare data/cohort/counts.tsv.gz --quantity counts"
    " --persons in/pairs.tsv -o @",
    "finetune-base": f"finetune :cohort --base {DECODE} -o @",
    "evaluate-scale": f"evaluate in/tissue.tsv --model {TISSUE} -o @",
    "pair-one": f"study pair LAPTM5 --model {PERSON} -o @",
    "knockout-regulator": f"study knockout --model {TISSUE} in/few.txt --regulators NOBODY -o @",
    "traits-trait": f"study traits --model {PERSON} :cohort --trait height -o @",
    "signature-columns": "study signature in/geo.tsv -o @",
    "enrich-gmt": "study enrich --model de-prior-v1 --scores :explain-prior.tsv"
    " --gmt in/bad.gmt -o @",
    "ablation-scale": "study ablation in/tiny.tsv --features :build -o @",
    "mediation-pair": "study mediation :cohort --pair A --regulators SPI1 -o @",
    "fetch-none": "fetch nobody-v1",
    "import-none": "cache import absent",
    "publish-none": "publish data",
}
CASES |= {f"bad-{name}": arguments for name, arguments in BAD.items()}
# Malformed registries are named by an environment variable, not by an argument.
REGISTRIES = {
    "duplicate": "format_version: 1\nformat_version: 1\nartifacts: {}\n",
    "alias": "format_version: &a 1\nother: *a\n",
    "list": "- 1\n",
    "tag": "!!python/object/apply:os.getcwd []\n",
    "field": "format_version: 1\nmodels: {}\nfeatures: {}\nnonsense: 1\n",
}
CASES |= {f"bad-registry-{name}": "ls" for name in REGISTRIES}

# Meant to differ from the tree before the house was rebuilt, and why.
INTENDED = {  # by case or by file
    "bad-signature-columns": "a table whose first numbers are p-values is refused (exit code 4)",
    "publish/.decode-zoo-publish.lock": "a zoo is locked by a file that stays",
    "knockout/summary.json": "a note names the table of all changes, no longer its file",
    "knockout-track/summary.json": "a note names the table of all changes, no longer its file",
    "report-study.html.provenance.json": "it has the sha256 of a section, whose pictures changed",
}
# Words that changed, on disk too.
RENAMED = {"person": "sample", "dealt": "permuted"}
# What may differ between two runs: when, where and with what it was made.
PASSING = {"command", "created", "decode_zoo", "builder_version", "revision", "code", "platform"}
PASSING |= {"free", "python", "packages", "seconds", "elapsed", "finished", "started"}
MOMENT = rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00)?|\b[\d.]+ (min|s)\b"
WORDS = {".html", ".svg", ".png", ".md", ".stderr", ".txt"}


def ordered(names: list[str]) -> list[str]:
    """Return the cases to run, each after those whose files it reads."""
    found: list[str] = []
    for name in names:
        needed = re.findall(r"(?<= ):([\w-]+)", CASES[name])
        found += [other for other in [*ordered(needed), name] if other not in found]
    return found


def write_inputs(folder: Path) -> None:
    """Write what the cases read: small files, and such as are broken in one way each."""
    random = np.random.default_rng(0)
    shutil.copytree(ROOT / "tests/data", folder / "data")
    made = folder / "in"
    shutil.copytree(ROOT / "examples", made)
    rows = json.loads((ROOT / "zoo/features/hg38-open-v2/features.json").read_text())["rows"]
    chr1 = np.array(rows["ids"])[np.array(rows["chroms"]) == "1"].tolist()
    gtf = gzip.decompress((folder / "data/genes.gtf.gz").read_bytes()).decode()
    tiny = sorted(set(re.findall('gene_id "(.*?)"', gtf)))
    counts = pd.read_csv(folder / "data/cohort/counts.tsv.gz", sep="\t", index_col=0)
    lists = {
        "list.txt": ["TP53", "ENSG00000139618.15", "nope", "TP53", "GATA1", "ENSG00000000003"],
        "few.txt": ["ALB", "SPI1", "CD53"],
        "tiny.txt": tiny[:5],
        "measured.txt": counts.index[::4].tolist(),
        "regulated.txt": ["STAT1", "IRF1", "IFIT1", "IFIT2", "IFIT3", "MX1", "OAS1", "ISG15"],
        "pairs.tsv": ["LAPTM5\tCD53", f"{counts.index[0]}\t{counts.index[1]}"],
        "above.tsv": ["gene\tx", "CTCF\t1", "YY1\t0.9", "SPI1\t0.1", "MAX\t0.7"],
        "sets.gmt": [
            "tfs\t\tCTCF\tYY1\tREST\tMAX\tSPI1\tETS1\tMYC\tNRF1\tELF1\tGABPA",
            "rbps\t\tSRSF1\tU2AF2\tHNRNPK\tFUS\tTIA1\tPUM2\tAGO2\tELAVL1\tQKI\tPTBP1",
        ],
        "bad.gmt": ["only a name"],
        "bad.bed": ["chr21\t10\t5\tx\t0\t+", "chr21\tten\t20"],
        "words.tsv": ["gene\ta\tb", *(f"{gene}\thigh\tlow" for gene in tiny[:20])],
        "negative.tsv": ["gene\ta\tb\tc", *(f"{gene}\t-1\t2\t3" for gene in counts.index[:99])],
        "geo.tsv": ["ID\tadj.P.Val\tP.Value\tt", *(f"{g}\t0.01\t0.001\t5" for g in chr1[::3])],
        "degs.tsv": ["gene\tlog2FoldChange\tpvalue"]
        + [f"{g}\t{random.normal(0, 2):.4f}\t{random.random() ** 4:.6f}" for g in chr1[::3]],
    }
    for name, text in lists.items():
        (made / name).write_text("".join(f"{line}\n" for line in text))
    (made / "binary.txt").write_bytes(bytes(range(256)) * 4)
    (made / "broken.txt.gz").write_bytes(gzip.compress(b"TP53\n" * 500)[:-9])

    def matrix(name: str, genes: list[str], columns: list[str]) -> None:
        own = np.random.default_rng(len(name))
        common = own.gamma(2, 2, (len(genes), 1))
        values = np.clip(common + own.normal(size=(len(genes), len(columns))), -2, 18)
        frame = pd.DataFrame(values.round(4), pd.Index(genes, name="gene_id"), columns)
        frame.to_csv(made / name, sep="\t")

    matrix("tiny.tsv", tiny, ["A", "B", "C"])
    matrix("tissue.tsv", chr1[::15], ["Liver", "Lung", "Whole_Blood"])
    matrix("lcl.tsv", counts.index.tolist(), [f"P{at}" for at in range(6)])
    bundle = ROOT / "zoo/models" / DECODE
    for name in ("json", "weights", "onnx", "answers"):
        shutil.copytree(bundle, made / f"bad-{name}")
    text = (bundle / "manifest.json").read_text()
    (made / "bad-json/manifest.json").write_text(text[:-40])
    (made / "bad-weights/weights.npz").write_bytes((bundle / "weights.npz").read_bytes()[:-500])
    (made / "bad-onnx/model.onnx").write_bytes(b"nonsense")
    changed = re.sub(r'("known_answers".*?)(\d\.\d{3})', r"\g<1>9\2", text, count=1, flags=re.S)
    (made / "bad-answers/manifest.json").write_text(changed)
    (made / "bad-features").mkdir()
    (made / "bad-features/features.json").write_text('{"format_version": 1, "layout": {}}')
    for name, text in REGISTRIES.items():
        (made / f"{name}.yaml").write_text(text)


def run_tree(tree: Path, names: list[str], work: Path, keep: Path) -> None:
    """Run cases with the code of a tree, and keep what they write under a folder."""
    run = work / "run"
    for folder in (run, keep):
        shutil.rmtree(folder, ignore_errors=True)
    run.mkdir(parents=True)
    write_inputs(run)
    (run / "log").mkdir()
    threads = ("OMP", "OPENBLAS", "MKL", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
    environment = {key: value for key, value in os.environ.items() if "DECODE_ZOO" not in key}
    environment |= {f"{name}_NUM_THREADS".replace("OP_NUM", "OP"): "1" for name in threads}
    environment |= {"PYTHONPATH": str(tree), "PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"DECODE_ZOO_OFFLINE": "1", "DECODE_ZOO_CACHE": str(run / "cache")}
    environment |= {"COLUMNS": "100", "SOURCE_DATE_EPOCH": "0", "CUDA_VISIBLE_DEVICES": ""}
    for at, name in enumerate(names, 1):
        call = re.sub(r"(?<= ):(?=\w)", "", CASES[name]).replace("@", name)
        call, _, feed = call.partition(" < ")
        registry = "data/toy/registry.yaml" if "toy-" in call else ""
        if name.startswith("bad-registry-"):
            registry = f"in/{name.removeprefix('bad-registry-')}.yaml"
        own = environment | {"DECODE_ZOO_REGISTRY": str(run / registry) if registry else ""}
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "decode_zoo", *call.split()],
            input=(run / feed).read_bytes() if feed else b"",
            capture_output=True,
            check=False,
            cwd=run,
            env=own,
        )
        for stream in ("stdout", "stderr"):
            text = getattr(done, stream).replace(os.fsencode(run), b"RUN")
            (run / "log" / f"{name}.{stream}").write_bytes(text.replace(os.fsencode(tree), b"TREE"))
        (run / "log" / f"{name}.json").write_text(json.dumps({"exit_code": done.returncode}))
        seconds = time.monotonic() - start
        print(f"{at}/{len(names)} {name}: {done.returncode}, {seconds:.1f} s", file=sys.stderr)
    for folder in ("data", "in", "cache"):
        shutil.rmtree(run / folder, ignore_errors=True)
    run.rename(keep)


def add_results(more: Path, kept: Path) -> None:
    """Move the results of some cases to those that are kept already."""
    (kept / "log").mkdir(parents=True, exist_ok=True)
    for path in [*more.iterdir(), *(more / "log").iterdir()]:
        target = kept / path.relative_to(more)
        if not target.exists():
            path.rename(target)


def cleaned(value: object) -> object:
    """Return JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {key: cleaned(part) for key, part in value.items() if key not in PASSING}
    if isinstance(value, list):
        return [cleaned(part) for part in value]
    if not isinstance(value, str):
        return value
    value = renamed(value)
    with suppress(ValueError):
        if value.startswith("{"):
            return cleaned(json.loads(value))
    return re.sub(r"^[\d.]+ GB; ", "", value)  # disk space, in `doctor`


def renamed(text: str) -> str:
    """Return a text in the present words."""
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    return text


def array_parts(name: str, array: np.ndarray) -> tuple[str, str, tuple[int, ...], object]:
    """Return an array as what is compared: name, type, shape and bytes, or texts."""
    array = np.asarray(array)
    if array.dtype.kind in "OS":
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
        return name, "text", array.shape, [cleaned(text) for text in texts]
    return name, str(array.dtype), array.shape, array.tobytes()


def h5_parts(path: Path) -> list[object]:
    """Return all datasets and attributes of an HDF5 file."""
    import h5py

    parts: list[object] = []

    def visit(name: str, node: h5py.Group | h5py.Dataset) -> None:
        parts.extend(array_parts(f"{name}@{key}", node.attrs[key]) for key in sorted(node.attrs))
        if isinstance(node, h5py.Dataset):
            parts.append(array_parts(name, node[()]))

    with h5py.File(path) as file:
        visit("", file)
        file.visititems(visit)
    return parts


def content(path: Path) -> object:
    """Return what a file says, so that equal content compares equal."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.suffix not in {".npz", ".parquet", ".h5ad", ".onnx"}:
        for old, new in RENAMED.items():
            data = data.replace(old.encode(), new.encode())
    if path.suffix in {".json", ".stdout"}:
        with suppress(ValueError):
            return cleaned(json.loads(data))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return [array_parts(name, arrays[name]) for name in arrays.files]
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        columns = [("index", frame.index), *frame.items()]
        arrays = [array_parts(str(name), column.to_numpy()) for name, column in columns]
        return arrays, [str(kind) for kind in frame.dtypes]
    if path.suffix == ".h5ad":
        return h5_parts(path)
    return re.sub(MOMENT, b"", data) if path.suffix in WORDS else data


def is_words(path: Path) -> bool:
    """Check whether a file is for people: pages, pictures, messages, text that is no table."""
    if path.suffix == ".stdout":
        data = path.read_bytes()
        return b"\t" not in data.split(b"\n")[0] and not data.startswith((b"{", b"["))
    return path.suffix in WORDS


def files_of(folder: Path, names: list[str]) -> dict[str, Path]:
    """Return the files that cases wrote, by path in their folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        at = Path(renamed(str(path.relative_to(folder))))
        top = at.parts[1] if at.parts[0] == "log" and len(at.parts) > 1 else at.parts[0]
        if path.is_file() and any(top == name or top.startswith(f"{name}.") for name in names):
            found[str(at)] = path
    return found


def compare(old: Path, new: Path, names: list[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """Yield each file that differs: its path, whether it is words, some of the difference."""
    before, after = files_of(old, names), files_of(new, names)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            which = "only the new tree" if name in after else "only the old tree"
            yield name, False, [f"{which} writes it"]
            continue
        pair = content(before[name]), content(after[name])
        if pair[0] != pair[1]:
            yield name, is_words(before[name]), list(shown(*pair))


def shown(old: object, new: object) -> Iterator[str]:
    """Yield a few lines that say how two contents differ."""
    texts = []
    for side in (old, new):
        if isinstance(side, bytes):
            binary = f"{len(side)} bytes that are no text"
            texts.append(binary if b"\0" in side else side.decode(errors="replace"))
        else:
            texts.append(json.dumps(side, indent=1, default=repr))
    lines = [text.splitlines() for text in texts]
    for line in islice(difflib.unified_diff(*lines, "old", "new", n=0, lineterm=""), 12):
        yield f"    {line[:200]}"


def main() -> int:
    """Compare two trees; return 1 if values or exit codes differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path, metavar="OLD_TREE")
    parser.add_argument("new", type=Path, metavar="NEW_TREE")
    parser.add_argument("--only", default="", help="names of cases, or beginnings as in 'study*'")
    parser.add_argument("--work", type=Path, default=Path("/tmp/goldens"))
    parser.add_argument(
        "--reuse-old", type=Path, help="where the old tree's results are, or will be"
    )
    parser.add_argument("--words", action="store_true", help="show how words differ")
    parser.add_argument("--list", action="store_true", help="list the cases")
    typed = parser.parse_args()
    if typed.list:
        print(*(f"{name}\t{call}" for name, call in CASES.items()), sep="\n")
        return 0
    asked = typed.only.split(",") if typed.only else list(CASES)
    chosen: list[str] = []
    for pattern in asked:
        found = [name for name in CASES if re.fullmatch(pattern.replace("*", ".*"), name)]
        if not found:
            parser.error(f"no case {pattern!r}; --list shows them")
        chosen += found
    names = ordered(chosen)
    old, new = typed.reuse_old or typed.work / "old", typed.work / "new"
    if not typed.reuse_old:
        shutil.rmtree(old, ignore_errors=True)
    lacking = [name for name in names if not (old / "log" / f"{name}.json").exists()]
    if lacking:
        run_tree(typed.old.resolve(), ordered(lacking), typed.work, typed.work / "more")
        add_results(typed.work / "more", old)
    run_tree(typed.new.resolve(), names, typed.work, new)
    values, words = 0, []
    for name, as_words, lines in compare(old, new, names):
        case = name.removeprefix("log/").split("/")[0].split(".")[0]
        if reason := INTENDED.get(case, INTENDED.get(name)):
            print(f"intended {name}: {reason}")
        elif not as_words:
            values += 1
            print(f"DIFFERS {name}", *lines, sep="\n")
        else:
            words.append(name)
            if typed.words:
                print(f"words {name}", *lines, sep="\n")
    if words:
        print(f"words of {len(words)} files differ (--words shows how):", ", ".join(words))
    print(f"{len(names)} cases, {values} differences of values or exit codes")
    return int(values > 0)


if __name__ == "__main__":
    sys.exit(main())
