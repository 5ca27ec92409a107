"""Oracle: TeX itself where one is installed; else the rules that its errors taught."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_up_runs import made_up_ranks, write_made_up_run

from results.tables.joined import side_by_side
from results.tables.performance import View, overall_table
from results.tables.render import to_latex

PAGE = r"""\documentclass[10pt]{{article}}
\usepackage{{booktabs}}\usepackage{{graphicx}}
\begin{{document}}
See Table~\ref{{{label}}}.
{table}
\end{{document}}
"""


@pytest.fixture
def latex(tmp_path: Path) -> str:
    """The widest table: three data sets, intervals, spreads, notes, labels that TeX would take for commands."""
    for dataset in ("beauty_2014", "toys & co", "[sports] 100%"):
        for seed in range(2):
            for place, (method, title) in enumerate([("sasrec", "[SASRec]"), ("etegrec", "ETE|Grec_{1} ~^λ")]):
                ranks = made_up_ranks(100, 0.3 + 0.1 * place, seed)
                assumptions = ["[text vectors]: tfidf-svd, ≤ 3 × 256 codes"]
                write_made_up_run(
                    tmp_path / "runs", ranks, dataset=dataset, dataset_fingerprint=dataset.encode().hex(),
                    method=method, title=title, seed=seed, assumptions=assumptions,
                )  # fmt: skip
    names = ("beauty_2014", "toys & co", "[sports] 100%")
    return to_latex(side_by_side([overall_table(tmp_path / "runs", n, view=View(intervals=True)) for n in names]))


def test_no_bracket_stands_where_tex_reads_an_option(latex: str) -> None:
    assert "low, high{]}: 95" in latex  # a note that began with [ did not compile
    assert not re.search(r"(\\\\|\\midrule|\\toprule|\\cmidrule\(lr\)\{[0-9-]+\})\s*\[", latex)
    assert r"\label{tab:overall-performance-on-beauty-2014-toys-co-and-sports-100}" in latex
    assert r"\resizebox{\ifdim\width>\linewidth" in latex


@pytest.mark.skipif(not (shutil.which("pdflatex") or shutil.which("tectonic")), reason="no TeX is installed")
def test_it_compiles_and_fits_the_page(latex: str, tmp_path: Path) -> None:
    label = re.search(r"\\label\{(.*)\}", latex)
    assert label is not None
    (tmp_path / "page.tex").write_text(PAGE.format(label=label[1], table=latex), encoding="utf-8")
    engine = shutil.which("pdflatex")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error"] if engine else ["tectonic", "--keep-logs"]
    ended = subprocess.run([*command, "page.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert (tmp_path / "page.pdf").stat().st_size > 0
    log = (tmp_path / "page.log").read_text(encoding="utf-8", errors="replace")
    assert "Float too large" not in log
    assert "Overfull \\hbox" not in log
