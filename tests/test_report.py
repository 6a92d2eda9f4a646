"""What a report says, and how it is written."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

import decode_zoo as dz
from decode_zoo.core.errors import MissingExtraError, UsageError
from decode_zoo.features.genesets import TARGETS

pytest.importorskip("jinja2")

from decode_zoo.pages.content import DETAIL, MAX_ROWS, steps_for, to_steps
from decode_zoo.pages.report import build_report, check_page, write_report

HOSTILE = "<img src=x onerror=alert(1)>"
BREAKOUT = "</script><script>alert(2)</script>"
GENES = ["ALB", "nope", "XIST", "ENSG00000163631.4", HOSTILE, "GATA1", BREAKOUT, "ACTB"]
OUTPUTS = ["Liver", "Lung", "median_log2_tpm"]
FOUND = ["ALB", "XIST", "GATA1", "ACTB"]


def content_of(html):
    """The data of a page, and its numbers by name."""
    data = json.loads(re.search(r'id="data">(.*?)</script>', html)[1])
    packed = re.search(r'id="numbers">(.*?)</script>', html)[1]
    buffer = gzip.decompress(base64.b64decode(packed))
    arrays = {
        name: np.frombuffer(buffer, np.dtype(kind).newbyteorder("<"), length, offset)
        for name, (kind, offset, length) in data["arrays"].items()
    }
    return data, arrays


@pytest.fixture(scope="module")
def model(toy_models):
    return toy_models["decode"]


@pytest.fixture(scope="module")
def report(model):
    # The toy has 14 regulators, and a page the strongest 15 of each gene.
    with pytest.MonkeyPatch.context() as patch:
        for module in ("report", "content"):  # pages take the number when they are imported
            patch.setattr(f"decode_zoo.pages.{module}.TOP", 6)
        return build_report(model, GENES, outputs=OUTPUTS, title=f"A {HOSTILE} list")


@pytest.fixture(scope="module")
def page(report):
    return content_of(report.html)


def test_rows_and_predictions_are_those_of_predict(page, model):
    data, arrays = page
    table = model.predict(GENES, outputs=OUTPUTS, backend="numpy")
    assert data["queries"] == GENES
    for name, column in (("ids", "gene_id"), ("symbols", "symbol"), ("statuses", "status")):
        assert data[name] == table[column].tolist()
    assert data["gene"] == [0, -1, 1, 0, -1, 2, -1, 3]
    expected = table.loc[table["status"] == "ok", OUTPUTS].to_numpy()
    np.testing.assert_array_equal(arrays["prediction"].reshape(4, 3), expected)
    assert [output["name"] for output in data["outputs"]] == OUTPUTS
    assert [output["unit"] for output in data["outputs"]] == ["log2 fold change"] * 2 + ["log2 TPM"]


def test_means_are_those_of_the_summary(page, model):
    data, arrays = page
    summary = model.explain(FOUND, outputs=OUTPUTS).summary()
    summary = summary[summary["class"] != "mask"]
    n = len(data["regulators"])
    classes = [data["classes"][i] for i in data["regulatorClass"]]
    for names, column in ((data["regulators"], "regulator"), (classes, "class")):
        assert names == summary[column].astype(str).tolist()[:n]
    for name, column in (("mean", "mean"), ("meanAbs", "mean_abs")):
        expected = summary[column].to_numpy().reshape(3, n).T
        np.testing.assert_allclose(arrays[name].reshape(n, 3), expected, rtol=1e-6)
    np.testing.assert_array_equal(arrays["present"], summary["n_genes"][:n])


def test_strongest_regulators_are_those_of_explain(page, model):
    data, arrays = page
    k = data["perOutput"]
    assert k == 6
    top = model.explain(FOUND, outputs=OUTPUTS).top(k)
    steps = arrays["steps"].reshape(4, 3)
    listed = arrays["top"].reshape(4, 3, k)
    scores = arrays["topScores"].reshape(4, 3, k)
    for i, j in np.ndindex(4, 3):
        own = top[(top["symbol"] == FOUND[i]) & (top["output"] == OUTPUTS[j])]
        n = len(own)
        assert [data["regulators"][r] for r in listed[i, j, :n]] == own["regulator"].tolist()
        off = scores[i, j, :n] * steps[i, j] - own["score"]
        assert np.abs(off.to_numpy()).max(initial=0) <= steps[i, j] / 2 + 1e-6
        assert (listed[i, j, n:] == 65535).all()
    assert steps.min() == np.float32(1e-4)


def test_scores_add_up_to_the_prediction(page, model):
    data, arrays = page
    sums = arrays["classSums"].reshape(4, len(data["classes"]), 3).astype(np.float64)
    reference = np.array([output["reference"] for output in data["outputs"]])
    delta = arrays["prediction"].reshape(4, 3) - reference - sums.sum(axis=1)
    assert np.abs(delta).max() <= 1e-5
    by_class = model.explain(FOUND, outputs=OUTPUTS, by="class")
    assert data["classes"] == by_class.resolution.features["class"].astype(str).tolist()
    for j, output in enumerate(OUTPUTS):
        np.testing.assert_allclose(sums[:, :, j], by_class.matrix(output), atol=1e-5)


def test_places_are_those_of_explain_by_position(page, model):
    data, arrays = page
    n, m, k = 4, 3, data["perOutput"]
    table = model.explain(FOUND, outputs=OUTPUTS, by="position").to_frame()
    table = table[table["class"] != "mask"]
    table["side"] = np.where(table["class"].isin(["TF", "chromatin"]), 0, 1)
    by = ["symbol", "output", "class", "regulator", "side", "bin"]
    expected = table.groupby(by, observed=True)["score"].sum()
    steps, top = arrays["steps"].reshape(n, m), arrays["top"].reshape(n, m, k)
    ends = np.cumsum(arrays["placeCounts"])
    assert ends[-1] == len(arrays["places"]) > 100
    shown = (np.split(arrays[name], ends[:-1]) for name in ("places", "placeScores"))
    for (i, j, rank), places, scores in zip(np.ndindex(n, m, k), *shown, strict=True):
        if (regulator := top[i, j, rank]) == 65535:
            assert not places.size
            continue
        kind = data["classes"][data["regulatorClass"][regulator]]
        own = expected.loc[FOUND[i], OUTPUTS[j], kind, data["regulators"][regulator]]
        found = list(zip((places % 2).tolist(), (places // 2).tolist(), strict=True))
        assert found
        assert sorted(found) == sorted(own.index)
        assert np.abs(scores * steps[i, j] - own.loc[found]).max() <= steps[i, j] / 2 + 1e-6

    bins = arrays["profileBins"].reshape(n, 2)
    assert bins.tolist() == [[30, -(-length // 100)] for length in data["rnaLengths"]]
    lengths = np.broadcast_to(bins[:, None, :], (n, m, 2)).ravel()
    assert lengths.sum() == len(arrays["profiles"])
    profiles = np.split(arrays["profiles"], np.cumsum(lengths)[:-1])
    for (i, j, side), profile in zip(np.ndindex(n, m, 2), profiles, strict=True):
        own = table[(table["symbol"] == FOUND[i]) & (table["output"] == OUTPUTS[j])]
        own = own[own["side"] == side]
        sums = np.bincount(own["bin"], own["score"], bins[i, side])
        assert np.abs(profile * steps[i, j] - sums).max() <= steps[i, j] / 2 + 1e-5


def test_steps_hold_in_16_bits():
    largest = np.array([0, 1e-9, 3.2767, 3.2768, 6.5, 6.6, 10, 1e30])
    steps = steps_for(largest)
    assert steps[:7].tolist() == [1e-4, 1e-4, 1e-4, 2e-4, 2e-4, 5e-4, 5e-4]
    for sign in (1, -1):
        held = to_steps(sign * largest, steps).astype(float) * steps
        assert (np.abs(held - sign * largest) <= steps / 2 * (1 + 1e-9)).all()


def test_names_stay_text_and_the_page_loads_nothing(report, page):
    """Nothing from elsewhere and no script but its own, whatever the genes and title are called."""
    assert page[0]["queries"] == GENES
    for raw in (HOSTILE, BREAKOUT, "<img"):
        assert raw not in report.html
    assert "&lt;img src=x onerror=alert(1)&gt; list</h1>" in report.html
    assert len(re.findall("<script", report.html)) == 3
    codes = re.findall(r"<(script|style)\b[^>]*>(.*?)</\1>", report.html, re.DOTALL)
    style, script = codes[0][1], codes[-1][1]
    assert not re.search(r"@import|url\(", style)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    elements = report.html
    for _, code in codes:
        elements = elements.replace(code, "")
    assert not re.search(r"<[^>]*\s(src|style|on\w+)\s*=", elements)
    links = re.findall(r"\shref\s*=\s*[\"']?([^\"'>]*)", elements)
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy"\s+content="(.*?)"', elements)
    policy = unescape(policy)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag, code in (codes[0], codes[-1]):
        sha256 = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{sha256}'" in policy


def test_provenance_and_honesty_are_on_the_page(report, model):
    manifest = model.manifest
    facts = (model.id, manifest.files["weights.npz"], model.features.sha256, manifest.citation)
    honest = (manifest.license, "do not prove", "not measurements", "rounded\nto 0.0001")
    for text in (*facts, *honest):
        assert text in report.html
    assert (report.provenance["backend"], report.provenance["by"]) == ("numpy", "regulator")


@pytest.mark.parametrize("genes", [[], ["nope", "nada"]])
def test_lists_without_a_known_gene_make_a_page(model, genes):
    data, arrays = content_of(build_report(model, genes, outputs=["Liver"]).html)
    assert data["statuses"] == ["unknown_gene"] * len(genes)
    assert data["detail"] == arrays["prediction"].size == 0
    assert not arrays["mean"].any()


def test_long_lists_show_the_first_genes_one_by_one(model, monkeypatch):
    monkeypatch.setattr("decode_zoo.pages.content.DETAIL", 2)
    told = []
    report = build_report(model, FOUND, outputs=["Liver"], progress=lambda *now: told.append(now))
    assert told == [(4, 6), (6, 6)]
    data, arrays = content_of(report.html)
    assert data["detail"] == 2
    assert arrays["steps"].size == 2
    assert arrays["prediction"].size == 4
    assert "Shown for the first 2 of 4 genes" in report.html


def test_the_same_genes_make_the_same_page(model):
    one, other = (build_report(model, FOUND[:2], outputs=["Liver"]) for _ in range(2))
    without = [page.html.replace(page.provenance["created"], "") for page in (one, other)]
    assert without[0] == without[1]
    assert "Shown for the first" not in one.html


@pytest.mark.parametrize(("n", "outputs"), [(5_001, ["Liver"]), (5_000, None)])
def test_too_long_lists_are_refused_with_another_way(model, monkeypatch, n, outputs):
    monkeypatch.setattr("decode_zoo.pages.content.MAX_PREDICTIONS", 14_000)
    with pytest.raises(UsageError, match="decode-zoo explain --summary"):
        build_report(model, ["ALB"] * n, outputs=outputs)


def test_what_scores_lack_is_told(report, model, tmp_path):
    """Target genes without positions, a feature set of transcripts, and one without its sites."""
    side = model.manifest.inputs["promoter"]
    targets = (replace(side.tracks[0], kind=TARGETS), *side.tracks[1:])
    inputs = {**model.manifest.inputs, "promoter": replace(side, tracks=targets)}
    manifest = replace(model.manifest, inputs=inputs)
    other = dz.Model(manifest, model.locate, lambda: model.features)
    transcripts = replace(model.features, layout=replace(model.features.layout, level="transcript"))
    for name in ("features.json", "pooled.npz"):
        (tmp_path / name).symlink_to(model.features.locate(name))
    no_sites = dz.FeatureSet.load(tmp_path)
    options = {"outputs": ["Liver"]}
    for html, words in (
        (build_report(other, ["ALB"], **options).html, ["only the target genes are known"]),
        (
            build_report(model, ["ENSG00000163631"], features=transcripts, **options).html,
            ["<h2>Transcripts</h2>"],
        ),
        (
            without := build_report(model, ["ALB"], features=no_sites, **options).html,
            ["No scores by position", "has no sites.npz", "decode-zoo fetch"],
        ),
    ):
        assert all(text in html for text in words)
        assert not any(text in report.html for text in words)
    data, arrays = content_of(without)
    assert not data["positions"]
    assert arrays["places"].size == arrays["profiles"].size == 0
    _, expected = content_of(build_report(model, ["ALB"], **options).html)
    np.testing.assert_array_equal(arrays["top"], expected["top"])


def test_missing_tracks_and_background_are_told(model):
    first, *others = model.features.side_tracks["promoter"]
    tracks = (replace(first, name="another"), *others)
    own = replace(model.features, side_tracks={**model.features.side_tracks, "promoter": tracks})
    options = {"outputs": ["Liver"], "features": own, "fill_missing": True}
    options["background"] = ["ACTB", "GAPDH"]
    report = build_report(model, ["ALB"], **options)
    assert report.missing == {"promoter": (first.name,), "rna": ()}
    assert "1 promoter tracks of the model are not in the feature set" in report.html
    assert "the mean of 2 background genes" in report.html
    data, arrays = content_of(report.html)
    expected = model.explain(["ALB"], by="class", **options)
    assert data["outputs"][0]["reference"] == pytest.approx(expected.reference[0])
    np.testing.assert_allclose(arrays["classSums"], expected.matrix("Liver").iloc[0], atol=1e-5)


def test_whole_or_not_at_all(model, report, tmp_path, monkeypatch):
    path, sidecar = tmp_path / "report.html", tmp_path / "report.html.provenance.json"
    report.write(path)
    assert json.loads(sidecar.read_text())["model"]["id"] == model.id
    assert path.read_text(encoding="utf-8") == report.html
    with pytest.raises(UsageError, match="--force"):
        write_report(model, ["ALB"], path)
    written = write_report(model, ["ALB"], path, outputs=["Liver"], force=True)
    assert path.read_text(encoding="utf-8") == written.html
    path.unlink()
    with pytest.raises(UsageError, match=r"provenance\.json exists"):
        report.write(path)
    odd = replace(report, html=report.html.replace("list</h1>", "\udcff list</h1>"))
    odd.write(path, force=True)
    assert b"? list</h1>" in path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="No space left"):
        report.write(tmp_path / "other.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, sidecar.name]


def test_wrong_calls(model, tmp_path, monkeypatch):
    (tmp_path / "folder.html").mkdir()
    for call, words in (
        (lambda: build_report(model, "ALB"), "not a single string"),
        (lambda: build_report(model, ["ALB"], outputs=["Livr"]), "no output 'Livr'"),
        (lambda: check_page(tmp_path / "report.pdf"), r"in \.html"),
        (lambda: check_page(tmp_path / "no" / "report.html"), "there is no folder"),
        (lambda: check_page(tmp_path / "folder.html", force=True), "not a regular file"),
    ):
        with pytest.raises(UsageError, match=words):
            call()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for call in (
        lambda: check_page(tmp_path / "report.html"),
        lambda: build_report(model, ["ALB"]),
    ):
        with pytest.raises(MissingExtraError, match=r"decode-zoo\[report\]"):
            call()


MODEL = ("report", "--model", "toy-decode-v1")


@pytest.mark.usefixtures("toy_zoo")
def test_command_line(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.tsv").write_text("gene\nALB\nnope\n")
    (tmp_path / "r.html").write_text("precious")
    args = (*MODEL, "mine.tsv", "--outputs", "Liver", "-o", "r.html")
    code, _, err = call(*args)
    assert (code, "--force" in err) == (2, True)
    assert (tmp_path / "r.html").read_text() == "precious"
    code, out, err = call(*args, "--title", "My <genes>", "--force")
    assert (code, out) == (0, ""), err
    assert "2 rows (1 ok, 1 unknown_gene)" in err
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h1>My &lt;genes&gt;</h1>" in html
    record = json.loads((tmp_path / "r.html.provenance.json").read_text())
    assert record["requested_model"] == "toy-decode-v1"
    assert record["genes"]["file"] == "mine.tsv"
    assert record["genes"]["sha256"] in html


@pytest.mark.usefixtures("toy_zoo")
@pytest.mark.parametrize(
    ("args", "genes", "code", "message"),
    [
        ("GENES -o x.tsv", "ALB\n", 2, ".html"),
        ("- -o x.html --background -", "", 2, "standard input"),
        ("GENES -o x.html --model nothing-v1", "ALB\n", 3, "nothing-v1"),
        ("GENES -o x.html", "", 4, "no genes"),
    ],
)
def test_errors_have_their_codes(call, args, genes, code, message, tmp_path, monkeypatch):
    (tmp_path / "genes.tsv").write_text(genes)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    found, _, err = call(*MODEL, *args.replace("GENES", "../genes.tsv").split())
    assert found == code
    assert message in err
    assert not any((tmp_path / "out").iterdir())


def test_pages_stay_below_ten_megabytes(monkeypatch):
    model = dz.load("gtex-tissue-v1")
    rows = model.features.rows
    coding = np.array(rows.ids)[np.array(rows.biotypes) == "protein_coding"]
    genes = coding[:: len(coding) // 100][:100].tolist()
    alone = len(build_report(model, genes[:10]).html)
    monkeypatch.setattr("decode_zoo.pages.content.DETAIL", 0)
    few, some, many = (len(build_report(model, genes[:n]).html) for n in (10, 50, 100))
    # Linear from there: by gene in the list, and by gene shown by itself.
    largest = many + (many - some) / 50 * MAX_ROWS
    largest += (alone - few) / 10 * (DETAIL // len(model.outputs))
    assert 4e6 < largest < 10e6
