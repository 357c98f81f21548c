"""The table and the picture of a sweep, of seeds that diverged and of seeds that are not there yet."""

import numpy as np
from folders import write_run

from purerl.results import comparison

RETURNS = np.array([[[0.0] * 3] * 2, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])


def test_diverged_seeds_are_counted_in_the_table_and_beside_the_line(tmp_path):
    run = write_run(tmp_path / "run", [0, 100], RETURNS, {1: 50}, swept={"tau": [0.01, 0.1]})
    lines = comparison.lines(run, "fast")
    header, *rows = comparison.table(lines)
    assert [row[header.index("diverged")] for row in rows] == [1, 1]
    assert [row[header.index("final_iqm")] for row in rows] == ["2", "5"]
    (panel,) = comparison.figure(lines).axes
    assert panel.get_title() == "fast, IQM over seeds"
    assert {text.get_text() for text in panel.get_legend().get_texts()} == {
        "tau 0.01, 3 seeds, 1 diverged",
        "tau 0.1, 3 seeds, 1 diverged",
    }


def test_a_seed_that_is_not_there_yet_has_not_diverged(tmp_path):
    run = write_run(tmp_path / "run", [0, 100], RETURNS, swept={"tau": [0.01, 0.1]})
    rows = (run / "curves.csv").read_text().splitlines()
    (run / "curves.csv").write_text("\n".join([*rows[:-1], ""]))  # the last seed of the last setting is at step 0
    header, *rows = comparison.table(comparison.lines(run, "fast"))
    assert [row[header.index("diverged")] for row in rows] == [0, 0]
    assert [row[header.index("num_seeds")] for row in rows] == [3, 3]
