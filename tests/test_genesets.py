"""Targets without positions: what GMT files say, whose genes those are, the tracks they make."""

from __future__ import annotations

import gzip
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.core.files import sha256_of
from decode_zoo.features.building import build_features
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genes import read_ids
from decode_zoo.features.genesets import GeneSet, TargetFile, name_reader, read_gmt, read_targets
from decode_zoo.features.sites import find_site_files
from decode_zoo.features.spec import Track
from tests.test_builder import (
    SMALL,
    TOY,
    Gene,
    Peak,
    column,
    scratch,
    transcripts,
    write_tracks,
)
from tests.test_builder import models as models_of

# F's window, 40 bases before its start and 20 from it on, is whole; L's and R's leave the
# chromosome, on its left and its right.
GENES = [
    Gene("F", "1", 1, ((100, 120),)),
    Gene("L", "1", 1, ((10, 60),)),
    Gene("R", "2", -1, ((60, 125),)),
]


def models(symbols=None, **columns):
    """GENES, under symbols of one's own."""
    symbols = symbols or {"F": "Fos", "L": "LYN", "R": "REL"}
    found = models_of(GENES)
    texts = {"symbols": [symbols[str(gene)] for gene in found.ids], **columns}
    return replace(found, **{name: np.array(values) for name, values in texts.items()})


def gmt(path, sets):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join([name, "", *genes]) + "\n" for name, genes in sets.items()))
    return path


def file(path, pattern="{regulator}", **more):
    return TargetFile(path, pattern, "here", **more)


def build(folder, targets, **more):
    options = {"layout": SMALL, "targets": targets, **more}
    return build_features(models(), TOY, {}, folder / "set", **options)


def covered(annotation, targets):
    """Ids of the rows of each track."""
    tracks, rows, codes = targets
    found = {track.name: set() for track in tracks}
    for row, code in zip(rows, codes, strict=True):
        found[tracks[code].name].add(str(annotation.ids[row]))
    return found


# -- GMT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_gmt(tmp_path, wrap):
    path = tmp_path / "x.gmt"
    path.write_bytes(
        wrap(
            b"\xef\xbb\xbfA_1\tabout A\tFOS\tJUN,1.0\tFOS,0.5\tHLA-A\r\n"
            b"B 2\t\tGENE,odd\tX,-2.5e-3\t\t\r\n"
        )
    )
    assert read_gmt(path) == [
        GeneSet("A_1", ("FOS", "JUN", "HLA-A"), 1),
        GeneSet("B 2", ("GENE,odd", "X"), 2),
    ]


@pytest.mark.fault
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no gene sets"),
        ("A\tx\tF\n\nB\tx\tF\n", "line 2: an empty line"),
        ("\tx\tF\n", "line 1: a gene set without a name"),
        ("A F G\n", "line 1: the gene set 'A F G' has no genes"),
        ("A\tx\tF\nB\tx\tF\t ,1\n", "line 2: a gene without a name in the set 'B'"),
        ("A\tx\tF\nB\tx\tF\nA\tx\tG\n", "line 3: the gene set 'A' is on line 1 already"),
        ("A\tx\tF\nB\tx\t\xe9\n", "line 2: is not UTF-8 text"),
        ("A\tx\tF\nB\tx\tF\0\n", "line 2: is no text"),
    ],
)
def test_what_is_no_gmt_is_refused(tmp_path, text, message):
    path = tmp_path / "x.gmt"
    path.write_bytes(text.encode("latin-1"))
    where = re.escape(str(path)) + "[:,] "
    with pytest.raises(InputError, match=where + message) as error:
        read_gmt(path)
    assert error.value.remedy or "UTF-8" in message


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("{regulator}_{}_{}_{cell}_{}", "VDR_24763502_CHIPSEQ_THP1_HUMAN", ("VDR", "THP1")),
        ("{}.{regulator}.{cell}", "GSE97661.SMAD4.Hep-G2_R516.2", ("SMAD4", "Hep-G2_R516.2")),
        ("{regulator}", "ZBTB7A", ("ZBTB7A", "")),
        ("{regulator}_{cell}", "A_", ("A", "")),
        ("{regulator}_{cell}", "_B", None),
        ("{regulator}_{cell}", "AB", None),
        ("{cell}@{regulator} targets", "K562@MYC target", None),
        ("TF: {regulator}", "MYC", None),
    ],
)
def test_names(pattern, name, found):
    assert name_reader(pattern)(name) == found


@given(
    st.permutations(["{regulator}", "{cell}", "{species}", "{}"]),
    st.lists(st.text("AB-1", min_size=1), min_size=4, max_size=4),
    st.sampled_from(["_", ".", "::", " in "]),
)
def test_fields_without_the_separator_are_found(fields, values, between):
    found = name_reader(between.join(fields))(between.join(values))
    assert found == (values[fields.index("{regulator}")], values[fields.index("{cell}")])


@pytest.mark.fault
@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("{cell}", "{regulator} must be in it once"),
        ("{regulator}_{cell}_{cell}", "{cell} is in it twice"),
        ("{regulator}_{cel}", "{cel} is no field"),
        ("{regulator}{cell}", "a text between two fields"),
        ("{regulator}_{", "braces without a field"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern, fault):
    with pytest.raises(UsageError, match=re.escape(fault)) as error:
        name_reader(pattern)
    assert "{regulator}_{cell}_{}" in str(error.value.remedy)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("A", "line 2: the name 'A' does not fit the pattern '{regulator}_{cell}'"),
        ("A_" + "x" * 195, "line 2: a gene set's name has more than 200"),  # with the file's
        (" A_x", "line 2: a gene set's name begins or ends with a blank"),
        ("A\x07_x", "line 2: a gene set's name holds characters"),
    ],
)
def test_names_that_make_no_track_are_refused(tmp_path, name, message):
    path = gmt(tmp_path / "lists.gmt", {"Z_x": ["FOS"], name: ["FOS"]})
    with pytest.raises(InputError, match=re.escape(message)):
        read_targets(file(path, "{regulator}_{cell}"), models())


# -- genes ---------------------------------------------------------------------------------------


def test_tracks_say_what_is_said_of_their_file(tmp_path):
    path = gmt(tmp_path / "lists.v2.gmt", {"MYC_K562": ["123"], "none": ["zzz"]})
    annotation = models()
    found = read_targets(file(path, "{regulator}", ids={"123": "R", "99": "gone"}), annotation)
    assert covered(annotation, found) == {"lists:MYC_K562": {"R"}, "lists:none": set()}
    track = Track("lists:none", "none", "tf_target", "", "here", sha256_of(path))
    assert found[0][1] == track


def test_of_a_symbol_of_several_genes_the_coding_one_is_meant_or_none(tmp_path, caplog):
    path = gmt(tmp_path / "x.gmt", {"1": ["TWIN", "REL"], "2": ["REL"]})
    caplog.set_level(logging.INFO, "decode_zoo.features.genesets")
    for biotypes, found, known in (
        (["protein_coding", "lncRNA", ""], {"F", "R"}, "2 of 2 genes are known, 0 are not, 0 are"),
        (["lncRNA", "lncRNA", ""], {"R"}, "1 of 2 genes are known, 0 are not, 1 are ambiguous"),
    ):
        annotation = models({"F": "TWIN", "L": "TWIN", "R": "REL"}, biotypes=biotypes)
        caplog.clear()
        assert covered(annotation, read_targets(file(path), annotation))["x:1"] == found
        assert known in caplog.text


def test_both_copies_of_a_pseudo_autosomal_gene_are_covered(tmp_path):
    ids = ["ENSG00000182378", "ENSG00000182378_PAR_Y", "R"]
    annotation = models({"F": "PLCXD1", "L": "PLCXD1", "R": "R"}, ids=ids, gene_ids=ids)
    path = gmt(
        tmp_path / "x.gmt",
        {"symbol": ["PLCXD1"], "x": ["ENSG00000182378.13"], "y": ["ENSG00000182378.13_PAR_Y"]},
    )
    found = covered(annotation, read_targets(file(path), annotation))
    assert found == {f"x:{name}": set(ids[:2]) for name in ("symbol", "x", "y")}


def test_all_transcripts_of_a_gene_are_covered(tmp_path):
    exons = (("G", "T1", 101, 125), ("H", "T3", 90, 99), ("G", "T2", 111, 125))
    rows = transcripts(tmp_path / "genes.gtf", exons)
    path = gmt(tmp_path / "x.gmt", {"A": ["SYMG"], "B": ["H"]})
    found = build_features(rows, TOY, {}, tmp_path / "set", layout=SMALL, targets=[file(path)])
    assert found.rows.ids == ["T1", "T3", "T2"]
    assert found.sums("promoter")[0].toarray().tolist() == [[60, 0], [0, 60], [60, 0]]


NAMES = ["F", "L", "R", "Fos", "fos", "LYN", "tWin", "twin", "TWIN", "old", "1", "2", "F,1.0"]
LISTS = st.dictionaries(
    st.text("abc", min_size=1, max_size=2),
    st.lists(st.sampled_from(NAMES), min_size=1),
    min_size=1,
)


@settings(max_examples=80)
@given(LISTS, st.permutations(["Fos", "LYN", "TWIN", "TWIN", "twin", ""]), st.randoms())
def test_targets_are_those_that_sets_say_whatever_the_order(lists, symbols, order):
    ids, aliases, table = ["F", "L", "R"], {"old": "R"}, {"1": "F", "2": "gone"}
    annotation = models(dict(zip(ids, symbols, strict=False)))
    bearers = {
        symbol: {gene for gene, own in zip(ids, symbols, strict=False) if own == symbol}
        for symbol in symbols[:3]
        if symbol
    }

    def meant(name):
        name = name.removesuffix(",1.0")
        name = table.get(name, name)
        if name in ids:
            return {name}
        if name not in bearers and name in aliases:
            return {aliases[name]}
        like = [symbol for symbol in bearers if symbol.lower() == name.lower()]
        found = bearers.get(name) or (bearers[like[0]] if len(like) == 1 else set())
        return found if len(found) == 1 else set()

    # Every gene of the toy annotation is of the same type, so that no symbol has one coding gene.
    expected = {f"x:{name}": set().union(*map(meant, genes)) for name, genes in lists.items()}
    with scratch() as folder:
        shuffled = {name: order.sample(genes, len(genes)) for name, genes in lists.items()}
        shuffled = dict(order.sample(sorted(shuffled.items()), len(shuffled)))
        paths = [gmt(folder / str(i) / "x.gmt", sets) for i, sets in enumerate((lists, shuffled))]
        files = [file(path, ids=table) for path in paths]
        if not any(expected.values()):
            with pytest.raises(InputError, match="is known"):
                read_targets(files[0], annotation, aliases)
            return
        one, other = (read_targets(each, annotation, aliases) for each in files)
        assert covered(annotation, one) == expected
        pairs = list(zip(*(values.tolist() for values in one[1:]), strict=True))
        assert pairs == sorted(set(pairs)) == list(zip(*map(list, other[1:]), strict=True))
        assert [track.name for track in one[0]] == [track.name for track in other[0]]


@pytest.mark.fault
def test_lists_without_a_known_gene_are_refused(tmp_path):
    path = gmt(tmp_path / "x.gmt", {"A": ["1", "10", "100"]})
    message = "none of its 3 genes is known.*are these ids or symbols of these gene"
    with pytest.raises(InputError, match=message) as error:
        build(tmp_path, [file(path)])
    assert str(path) in str(error.value)
    assert "Entrez numbers" in str(error.value)
    assert "--target-ids" in str(error.value.remedy)
    assert not (tmp_path / "set").exists()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("genes", "warning"),
    [
        (["F", "L", "x", "y"], None),
        (["F", "x", "y"], "1 of 3 genes are known, 2 are not"),
        (["Lyn", "Rel", "Fos"], "another species"),
    ],
)
def test_lists_that_fit_badly_are_warned_of(tmp_path, caplog, genes, warning):
    read_targets(file(gmt(tmp_path / "x.gmt", {"A": genes})), models())
    warnings = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(warnings) == bool(warning)
    assert not warning or warning in warnings[0]


def test_table_of_ids(tmp_path, caplog):
    path = tmp_path / "ids.tsv"
    path.write_text("alias\tgene_id\tx\n1\tF\n2\tL\t\n\tR\n3\t\n4\tF\n4\tR\n1\tF\n")
    assert read_ids(path) == {"1": "F", "2": "L"}
    assert "1 names stand for several genes and are left out, such as 4" in caplog.text
    path.write_text("a\tb\n")
    with pytest.raises(InputError, match="line 1: its header must be"):
        read_ids(path)


# -- tracks --------------------------------------------------------------------------------------


def test_a_targets_window_is_covered_as_far_as_it_exists(tmp_path):
    path = gmt(tmp_path / "x.gmt", {"A": ["F", "L"], "B": ["R"], "C": ["F"]})
    found = build(tmp_path, [file(path)])
    assert column(found, "F", "promoter", "x:A") == [10] * 6
    assert column(found, "L", "promoter", "x:A") == [0, 0, 0, 10, 10, 10]
    assert column(found, "R", "promoter", "x:B") == [0, 0, 0, 5, 10, 10]
    sums = found.sums("promoter")[0].toarray()
    assert sums.tolist() == [[60, 0, 60], [30, 0, 0], [0, 25, 0]]
    assert found.mask_sums("promoter", 1)[:, 0].tolist() == [60, 30, 25]


def test_a_window_that_does_not_exist_is_not_covered(tmp_path):
    genes = [Gene("A", "1", 1, ((0, 30),)), Gene("B", "1", 1, ((100, 130),))]
    path = gmt(tmp_path / "x.gmt", {"T": ["A", "B"]})
    upstream = replace(SMALL, downstream=0)
    found = build_features(
        models_of(genes), TOY, {}, tmp_path / "set", layout=upstream, targets=[file(path)]
    )
    assert found.sums("promoter")[0].toarray().tolist() == [[0], [40]]
    assert found.pieces("promoter").indptr.tolist() == [0, 0, 1]


def test_targets_come_behind_sites_and_change_none(tmp_path):
    folder = write_tracks(tmp_path / "chip", {"Z": [Peak("1", 90, 130)], "Y": []})
    files = {"promoter": find_site_files(folder, "promoter"), "rna": find_site_files(folder, "rna")}
    lists = [file(gmt(tmp_path / f"{name}.gmt", {"A": ["F"], "B": ["R"]})) for name in "ba"]
    alone = build_features(models(), TOY, files, tmp_path / "alone", layout=SMALL)
    steps = []
    both = build_features(
        models(), TOY, files, tmp_path / "both", layout=SMALL, targets=lists, progress=steps.append
    )
    assert both.tracks("promoter") == ["Y", "Z", "b:A", "b:B", "a:A", "a:B"]
    assert both.side_tracks["promoter"][:2] == alone.side_tracks["promoter"]
    rows = np.arange(3)
    for side in ("promoter", "rna"):
        n = len(alone.tracks(side))
        assert np.array_equal(both.matrix(rows, side)[:, :, : 1 + n], alone.matrix(rows, side))
    assert sum(steps) == 6


# -- command line --------------------------------------------------------------------------------


def prepared(folder):
    (folder / "genes.gtf").write_text(
        "".join(
            f'chr2\tx\texon\t{start}\t{start + 150}\t.\t+\t.\tgene_id "{gene}"; '
            f'gene_name "{gene.lower()}";\n'
            for gene, start in (("A", 5000), ("B", 9000))
        )
    )
    gmt(folder / "one.gmt", {"CTCF_K562_HG19": ["A", "B"], "MYC_HeLa_HG19": ["b"]})
    gmt(folder / "two.gmt", {"GSE1.CTCF.liver": ["7", "8"]})
    (folder / "ids.tsv").write_text("alias\tgene_id\n7\tA\n8\tgone\n")
    lists = [word for name in ("one.gmt", "two.gmt") for word in ("--targets", str(folder / name))]
    gtf = ["--gtf", str(folder / "genes.gtf")]
    return ["features", "build", *gtf, *lists, "-o", str(folder / "set")]


def test_command_line(call, tmp_path):
    args = prepared(tmp_path)
    names = ["--target-names", "{regulator}_{cell}_{}", "--target-names", "{}.{regulator}.{cell}"]
    code, _, err = call(*args, *names, "--target-ids", tmp_path / "ids.tsv")
    assert code == 0, err
    assert "2 genes, 3 promoter and 0 RNA tracks" in err
    _, text, _ = call("features", "info", tmp_path / "set")
    assert "promoter    3 tracks of 2 regulators (3 tf_target)" in text
    _, table, _ = call("features", "info", tmp_path / "set", "--tracks")
    assert [line.split("\t") for line in table.splitlines()[1:]] == [
        ["promoter", "one:CTCF_K562_HG19", "CTCF", "tf_target", "K562", "one.gmt"],
        ["promoter", "one:MYC_HeLa_HG19", "MYC", "tf_target", "HeLa", "one.gmt"],
        ["promoter", "two:GSE1.CTCF.liver", "CTCF", "tf_target", "liver", "two.gmt"],
    ]
    sums = FeatureSet.load(tmp_path / "set").sums("promoter")[0].toarray()
    assert sums.tolist() == [[3000, 0, 3000], [3000, 3000, 0]]
    # One pattern for all, on the gene models of a set.
    like = ["--like", tmp_path / "set", "--targets", tmp_path / "one.gmt"]
    names = ["--target-names", "{regulator}_{}"]
    code, _, err = call("features", "build", *like, *names, "-o", tmp_path / "more")
    assert code == 0, err


NONE = ["--rna", "x"]  # in place of the lists of targets


@pytest.mark.fault
@pytest.mark.parametrize(
    ("lists", "more", "code", "message"),
    [
        (None, [], 2, "2 --targets and 0 --target-names"),
        (None, ["--target-names", "{regulator}"] * 3, 2, "2 --targets and 3 --target-names"),
        (None, ["--target-names", "{regulator}_{cell}_{}"], 4, "does not fit the pattern"),
        (None, ["--target-names", "{regulator}", "--target-ids", "no"], 4, "no: no such file"),
        (None, ["--target-names", ""], 2, "nothing is given"),
        ([], [], 2, "--mirna and --targets"),
        (NONE, ["--target-names", "{regulator}"], 2, "0 --targets and 1 --target-names"),
        (NONE, ["--target-ids", "ids.tsv"], 2, "--target-ids is for --targets"),
    ],
)
def test_wrong_calls(call, tmp_path, lists, more, code, message):
    command = prepared(tmp_path)
    if lists is not None:
        command[4:8] = lists
    found, _, err = call(*command, *more)
    assert (found, message in err) == (code, True)
    assert not (tmp_path / "set").exists()
