"""`python -m purerl.plot` as a user runs it."""

import re

import numpy as np
import pytest
from folders import write_run

from purerl import plot
from purerl.results import curves, figures, panels, published

STEPS = list(range(0, 1_000_001, 50_000))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two algorithms on Hopper-v5 and one on a task of Brax's, ten seeds each, of which one diverged."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    rise = 3000 * (1 - np.exp(-np.array(STEPS)[:, None] / 3e5))
    for algo, env in (("td3", "Hopper-v5"), ("sac", "Hopper-v5"), ("td3", "hopper")):
        returns = rise * rng.uniform(0.8, 1.2, (1, 10)) + rng.normal(0, 150, (len(STEPS), 10))
        diverged = {3: 420_000} if (algo, env) == ("td3", "Hopper-v5") else {}
        write_run(folder / f"{algo}-{env}", STEPS, returns, diverged, algo=algo, env=env)
    return folder


@pytest.mark.parametrize("style", plot.STYLES)
@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_every_style_draws_every_kind_of_file(runs, tmp_path, style, kind, begins):
    out = tmp_path / "new" / f"figure.{kind}"
    assert plot.main([str(runs), "--style", style, "--out", str(out)]) == 0
    assert out.read_bytes().startswith(begins)


def text_of(svg):
    """The words of a figure: matplotlib says them in comments beside their outlines."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text())


def test_the_figure_says_seeds_units_bands_and_sources(runs, tmp_path, capsys):
    out = tmp_path / "figure.svg"
    assert plot.main([str(runs), "--published", "--out", str(out)]) == 0
    words = text_of(out)
    assert {"TD3, 10 seeds, 1 diverged", "SAC, 10 seeds", "environment steps [millions]"} <= set(words)
    assert {
        "TD3 by Fujimoto et al. 2018 (v1), mean of 10 seeds",
        "SAC by JAXRL (v2), mean of 10 seeds",
    } <= set(words)
    assert "IQM, 95% bootstrap interval" in words and "return of an episode" in words
    assert "Hopper-v5: TD3, 10 seeds, 1 diverged" in capsys.readouterr().out


@pytest.mark.parametrize(("x", "label"), [("update", "critic updates"), ("wall_s", "wall-clock time [h]")])
def test_other_axes_say_what_they_are(runs, tmp_path, x, label):
    out = tmp_path / "figure.svg"
    assert plot.main([str(runs), "--x", x, "--out", str(out)]) == 0
    assert any(words.startswith(label) for words in text_of(out))


def test_lines_are_told_apart_by_any_setting(runs, tmp_path, capsys):
    assert plot.main([str(runs), "--by", "algo,tau", "--out", str(tmp_path / "figure.svg")]) == 0
    assert "Hopper-v5: SAC, tau 0.005, 10 seeds" in capsys.readouterr().out


def test_pooled_runs_of_other_settings_are_told(tmp_path, capsys):
    for name, tau in (("a", 0.005), ("b", 0.02)):
        write_run(tmp_path / name, [0, 100], np.ones((2, 3)), hyper={"tau": tau})
    assert plot.main([str(tmp_path), "--out", str(tmp_path / "figure.png")]) == 0
    said = capsys.readouterr().out
    assert "fast: TD3, 6 seeds" in said and "note: TD3 on fast pools runs that differ in tau" in said
    assert plot.main([str(tmp_path), "--by", "tau", "--out", str(tmp_path / "figure.png")]) == 0
    assert "note" not in capsys.readouterr().out


def test_seeds_that_count_twice_are_told(tmp_path, capsys):
    for name, width in (("a", 3), ("b", 2)):
        write_run(tmp_path / name, [0, 100], np.ones((2, width)))
    assert plot.main([str(tmp_path), "--out", str(tmp_path / "figure.png")]) == 0
    said = capsys.readouterr().out
    assert "fast: TD3, 5 seeds" in said and "note: TD3 on fast counts 2 seeds more than once, from runs" in said
    for separate in ([str(tmp_path), "--by", "run"], [str(tmp_path / "a")]):
        assert plot.main([*separate, "--out", str(tmp_path / "figure.png")]) == 0
        assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "figure.jpg"], "out 'figure.jpg' is not a picture file; end it with .png, .svg, .pdf"),
        (["--by", "taus", "--out", "figure.png"], "has no setting 'taus'; did you mean tau"),
        (["--by", "diverged", "--out", "figure.png"], "has no setting 'diverged'"),
        (["--by", "", "--out", "figure.png"], "by lists no setting; use algo"),
        (["--x", "update", "--published", "--out", "f.png"], "published curves have the axis env_step"),
        (["--style", "ggplot", "--out", "figure.png"], "invalid choice: 'ggplot'"),
        (["nowhere", "--out", "figure.png"], "there is no run in 'nowhere'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(runs, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        plot.main([str(runs), *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and message in error
    assert not list(tmp_path.iterdir())


def test_published_curves_stand_by_their_algorithm_whatever_tells_lines_apart(runs, tmp_path):
    out = tmp_path / "figure.svg"
    assert plot.main([str(runs), "--by", "tau", "--published", "--out", str(out)]) == 0
    words = text_of(out)
    assert "tau 0.005, 20 seeds, 1 diverged" in words
    for algo, source in (("TD3", "Fujimoto et al. 2018 (v1)"), ("SAC", "JAXRL (v2)")):
        assert f"{algo} by {source}, mean of 10 seeds" in words


def test_a_wall_clock_of_seeds_that_trained_in_groups_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", [0, 100], np.ones((2, 2)))
    first, *rows = (run / "curves.csv").read_text().splitlines()
    place = first.split(",").index("wall_s")
    later = [row.split(",") for row in rows]
    for row in later[1::2]:  # the second seed
        row[place] = str(float(row[place]) + 1000)
    (run / "curves.csv").write_text("\n".join([first, *map(",".join, later), ""]))
    with pytest.raises(SystemExit):
        plot.main([str(run), "--x", "wall_s", "--out", str(tmp_path / "figure.png")])
    assert "the seeds of run were trained in groups, one after another; use --x env_step" in capsys.readouterr().err


def test_more_lines_than_colours_are_told(tmp_path, capsys):
    for i in range(9):
        write_run(tmp_path / f"run{i}", [0, 100], np.ones((2, 2)))
    assert plot.main([str(tmp_path), "--by", "run", "--out", str(tmp_path / "figure.png")]) == 0
    assert "note: 9 lines share 8 colors" in capsys.readouterr().out


def test_published_curves_do_not_stand_beside_episodes_of_another_length(tmp_path, capsys):
    for name, length in (("short", 100), ("whole", 1000)):
        write_run(tmp_path / name, [0, 100_000], np.ones((2, 2)), env="Hopper-v5", episode_length=length)
    out = tmp_path / "figure.svg"
    assert plot.main([str(tmp_path), "--by", "run", "--published", "--out", str(out)]) == 0
    assert "TD3 by Tianshou (v3), mean of 10 seeds" in text_of(out)
    with pytest.raises(SystemExit):
        plot.main([str(tmp_path / "short"), "--published", "--out", str(out)])
    assert "no results are published for TD3 on Hopper-v5; known:" in capsys.readouterr().err


def test_every_name_is_in_the_legend_as_it_is(tmp_path):
    for name in ("_old", "a$_b^$", "ü"):
        write_run(tmp_path / name, [0, 100], np.ones((2, 2)))
    assert plot.main([str(tmp_path), "--by", "run", "--out", str(tmp_path / "figure.svg")]) == 0
    words = {text.strip() for text in text_of(tmp_path / "figure.svg")}
    assert {"_old, 2 seeds", "a$_b^$, 2 seeds", "ü, 2 seeds"} <= words


def test_all_published_curves_are_drawn_and_the_title_tells_of_all_lines(runs):
    ours = {
        name: curves.Runs(1e5 * np.arange(n), np.zeros((n, 2)), np.arange(2), np.full(2, np.nan))
        for name, n in (("A", 201), ("B", 21))
    }
    theirs = {"A": published.find_curves("Ant-v5")}
    (axes,) = figures.learning_curves({"Ant-v5": ours}, style="td3", published={"Ant-v5": theirs}).axes
    assert len(axes.lines) == 2 + len(theirs["A"]) > 5
    assert axes.get_title() == "Ant-v5\nmean ± half a std, smoothed over at most 9"


def test_nothing_published_is_an_error(runs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        plot.main([str(runs / "td3-hopper"), "--published", "--out", str(tmp_path / "figure.png")])
    assert "published for TD3 on hopper; known: DDPG, TD3 and SAC on Ant, HalfCheetah" in capsys.readouterr().err


def test_published_curves_have_the_color_of_their_algorithm_in_every_panel(tmp_path, capsys):
    for env, steps in (("Hopper-v5", 1), ("Hopper-v5", 2), ("Ant-v5", 2), ("Walker2d-v5", 2)):
        write_run(tmp_path / f"{env}{steps}", [0, 100_000], np.ones((2, 2)), env=env, buffer_size=steps)
    figure, notes = panels.draw_panels([tmp_path], ["algo", "buffer_size"], "env_step", "rliable", True)
    lines = {line.get_label(): set() for axes in figure.axes for line in axes.get_lines()}
    for axes in figure.axes:
        for line in axes.get_lines():
            lines[line.get_label()].add(line.get_color())
    by_tianshou = lines["TD3 by Tianshou (v3), mean of 10 seeds"]
    assert by_tianshou == lines["TD3 by Fujimoto et al. 2018 (v1), mean of 10 seeds"] and len(by_tianshou) == 1
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == len(legend.get_texts()) == 4
    assert [note for note in notes if "Walker2d-v5 are of older versions; v5 raises" in note]


def test_a_shared_legend_is_not_wider_than_the_figure(runs):
    shown = curves.gather(curves.load(runs / "td3-Hopper-v5"))
    for length in (5, 30, 50, 100):
        names = [f"{'x' * length} {i}" for i in range(7)]
        figure = figures.learning_curves({env: dict.fromkeys(names, shown) for env in ("a", "b", "c", "d")})
        figure.canvas.draw()
        (legend,) = figure.legends
        extent = legend.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width


def test_seeds_that_end_earlier_than_their_line_are_told(tmp_path, capsys):
    write_run(tmp_path / "short", [0, 100], np.ones((2, 2)))
    write_run(tmp_path / "long", [0, 100, 200], np.ones((3, 3)), seed=5)
    rows = (tmp_path / "long" / "curves.csv").read_text()
    (tmp_path / "long" / "curves.csv").write_text(rows.replace("\n0,", "\n5,").replace("\n1,", "\n6,"))
    assert plot.main([str(tmp_path), "--out", str(tmp_path / "figure.png")]) == 0
    assert "note: TD3 on fast ends with 3 of 5 seeds; the others end earlier" in capsys.readouterr().out


def test_an_axis_without_values_is_an_error(tmp_path, capsys):
    run = write_run(tmp_path / "run", [0, 100], np.ones((2, 2)))
    frame = curves.load(run)
    assert set(frame["update"]) == {0, 50}
    lines = (run / "curves.csv").read_text().splitlines()
    column = lines[0].split(",").index("update")
    cells = [line.split(",") for line in lines]
    emptied = [row if row is cells[0] else [*row[:column], "", *row[column + 1 :]] for row in cells]
    (run / "curves.csv").write_text("\n".join(map(",".join, emptied)) + "\n")
    with pytest.raises(SystemExit):
        plot.main([str(run), "--x", "update", "--out", str(tmp_path / "figure.png")])
    assert "run has no values of update; use --x env_step" in capsys.readouterr().err


def test_the_papers_bands():
    values = np.array([[0.0, 2.0, 4.0]])
    spread = np.std([0, 2, 4])
    expected = {"td3": spread / 2, "sac": 2.0, "spinningup": spread}
    for style, half in expected.items():
        np.testing.assert_allclose(figures.STYLES[style].draw(values), [[2.0], [2.0 - half], [2.0 + half]])


def test_smoothing_is_a_mean_around_each_evaluation_and_knows_no_diverged_one():
    values = np.array([[0.0], [3.0], [6.0], [np.nan]])
    np.testing.assert_allclose(figures.smooth(values, 3)[:, 0], [1.5, 3.0, 4.5, np.nan])


@pytest.mark.parametrize(("evaluations", "window"), [(196, 9), (250, 11), (21, 1), (59, 1), (60, 3)])
def test_a_curve_is_smoothed_over_an_odd_number_of_evaluations_a_twentieth_at_most(evaluations, window):
    impulse = np.zeros((evaluations, 2))
    impulse[evaluations // 2] = 1.0
    runs = curves.Runs(np.arange(evaluations), impulse, np.arange(2), np.full(2, np.nan))
    (axes,) = figures.learning_curves({"task": {"TD3": runs}}, style="td3").axes
    there = np.flatnonzero(axes.lines[0].get_ydata())
    assert len(there) == window and there.mean() == evaluations // 2


def test_a_curve_of_few_evaluations_is_not_smoothed(runs):
    shown = curves.gather(curves.load(runs / "td3-hopper"))
    (axes,) = figures.learning_curves({"hopper": {"TD3": shown}}, style="td3").axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.mean(shown.values, axis=1))
    assert "smoothed" not in axes.get_title()


def test_panels_with_equal_labels_share_one_legend_and_stand_four_in_a_row(runs):
    shown = curves.gather(curves.load(runs / "td3-Hopper-v5"))
    envs = ("Hopper-v5", "Ant-v5", "HalfCheetah-v5", "Walker2d-v5", "none")
    theirs = {env: {"TD3": published.find_curves(env, "td3")} for env in envs}
    for count, columns in ((4, 4), (5, 3)):
        figure = figures.learning_curves({env: {"TD3": shown} for env in envs[:count]}, published=theirs)
        assert figure.axes[0].get_subplotspec().get_gridspec().ncols == columns
        assert not any(axes.get_legend() for axes in figure.axes)
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [
            "TD3, 10 seeds, 1 diverged",
            "TD3 by Fujimoto et al. 2018 (v1), mean of 10 seeds",
            "TD3 by Tianshou (v3), mean of 10 seeds",
        ]


def test_panels_whose_labels_differ_have_a_legend_each_and_no_panel_is_narrower_than_a_column(runs):
    shown = curves.gather(curves.load(runs / "td3-Hopper-v5"))
    fewer = shown._replace(values=shown.values[:, :5], seeds=shown.seeds[:5], diverged=shown.diverged[:5])
    theirs = {"Hopper-v5": {"TD3": published.find_curves("Hopper-v5", "td3")}}
    panels = {"Hopper-v5": {"TD3": shown}, "a": {"TD3": fewer}, "b": {"TD3": shown}}
    figure = figures.learning_curves(panels, published=theirs)
    assert figure.axes[0].get_subplotspec().get_gridspec().ncols == 2 and not figure.legends
    assert [len(axes.get_legend().get_texts()) for axes in figure.axes[:3]] == [3, 1, 1]
    assert figure.get_size_inches()[0] >= 2 * figures.COLUMN


def test_a_source_has_the_same_dashes_beside_every_algorithm(runs):
    shown = curves.gather(curves.load(runs / "td3-Hopper-v5"))
    dashes = set()
    for algo in ("ddpg", "td3", "sac"):
        theirs = {"Hopper-v5": {algo: published.find_curves("Hopper-v5", algo)}}
        (axes,) = figures.learning_curves({"Hopper-v5": {algo: shown}}, published=theirs).axes
        dashes |= {str(line._dash_pattern) for line in axes.lines if "Tianshou" in line.get_label()}
    assert len(dashes) == 1


def test_published_curves_go_as_far_as_ours(runs):
    shown = curves.gather(curves.load(runs / "td3-Hopper-v5"))._replace(x=np.linspace(0, 62_500, 21))
    theirs = published.find_curves("Hopper-v5", "td3")
    (axes,) = figures.learning_curves({"Hopper-v5": {"TD3": shown}}, published={"Hopper-v5": {"TD3": theirs}}).axes
    drawn = [line for line in axes.lines if " by " in line.get_label()]
    for line, curve in zip(drawn, theirs, strict=True):
        x, y = line.get_data()
        assert x[-1] == 62.5 and y[-1] == np.interp(62_500, curve.env_step, curve.mean)
        there = curve.env_step < 62_500
        np.testing.assert_array_equal((x[:-1] * 1e3, y[:-1]), (curve.env_step[there], curve.mean[there]))


def test_a_diverged_seed_is_drawn_up_to_a_cross(runs):
    shown = curves.gather(curves.load(runs / "td3-Hopper-v5"))
    (axes,) = figures.learning_curves({"Hopper-v5": {"TD3": shown}}).axes
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert cross.get_xdata()[0] == 0.4 and cross.get_ydata()[0] == shown.values[8, 3]


def test_a_published_curve_that_begins_later_than_the_runs_end_is_not_in_the_figure(tmp_path):
    write_run(tmp_path / "run", [0, 1000], np.ones((2, 2)), env="Hopper-v5")
    assert plot.main([str(tmp_path / "run"), "--published", "--out", str(tmp_path / "figure.svg")]) == 0
    shown = "".join(text_of(tmp_path / "figure.svg"))
    assert "TD3 by Fujimoto et al. 2018" in shown and "Tianshou" not in shown
