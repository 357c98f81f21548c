"""report.html: what it says, and how it behaves in a browser without a network."""

import asyncio
import itertools
import json
import re

import browser
import numpy as np
import pytest
from folders import write_run

from purerl import report
from purerl.results import curves, page

STEPS = list(range(0, 100_001, 10_000))
TIPS = """[...document.querySelectorAll('*')].map(function text(e) {
  return e.shadowRoot ? [...e.shadowRoot.querySelectorAll('*')].map(text).join(' ')
       : e.className && String(e.className).includes('bk-tooltip') ? e.textContent : '' }).join(' ')"""

FRAME = """(() => {
  const view = Object.values(Bokeh.index)[0], frame = view.frame.bbox, plot = view.el.getBoundingClientRect()
  return [plot.x + frame.x0, plot.y + frame.y0, frame.x1 - frame.x0, frame.y1 - frame.y0] })()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two algorithms on Hopper-v5, four seeds each, of which one diverged; with an episode, and with markup."""
    folder, rng = tmp_path_factory.mktemp("runs") / "sweep", np.random.default_rng(0)
    for algo in ("td3", "sac"):
        returns = np.array(STEPS)[:, None] / 40 + rng.normal(0, 100, (len(STEPS), 4))
        diverged = {2: 45_000} if algo == "td3" else {}
        run = write_run(folder / algo, STEPS, returns, diverged, algo=algo, env="Hopper-v5", note="<script>1</script>")
        log = {"event": "compiled", "seconds": 1.5, "bytes_needed": 3_000_000, "bytes_free": 8_000_000}
        (run / "log.jsonl").write_text(json.dumps(log) + "\n")
    (folder / "td3" / "episodes").mkdir()
    (folder / "td3" / "episodes" / "best.html").touch()
    assert report.main([str(folder / "td3"), str(folder)]) == 0
    return folder


def test_the_page_says_what_a_run_came_to(folder):
    text = (folder / "td3" / page.FILE).read_text()
    for words in ("TD3 on Hopper-v5", "seed 2, at step 45,000", "hyper.tau", "0.005", 'href="episodes/best.html"'):
        assert words in text
    assert re.search(r"memory needed \[MB\]</th><td>3<", text) and "arXiv:1802.09477" in text
    assert "<script>1</script>" not in text and "&lt;script&gt;" in text


def test_the_page_of_a_sweep_has_all_its_runs(folder):
    text = (folder / page.FILE).read_text()
    assert "Diverged: 1" in text and "<h2>td3</h2>" in text and "<h2>sac</h2>" in text
    assert 'href="td3/report.html"' in text


def test_a_setting_is_called_by_what_is_swept(tmp_path):
    returns = np.ones((len(STEPS), 2, 3)) * np.array(STEPS)[:, None, None]
    run = write_run(tmp_path / "grid", STEPS, returns, {1: 45_000}, swept={"actor_lr": [1e-4, 3e-4]})
    text = page.html(run)
    for words in ("grid, actor_lr 0.0001, 3 seeds, 1 diverged", "grid, actor_lr 0.0003, seed 1, at step 45,000"):
        assert words in text, words
    assert "setting 1" not in text


def test_settings_that_look_alike_stay_apart(tmp_path):
    returns = np.ones((len(STEPS), 2, 3)) * np.array(STEPS)[:, None, None]
    run = write_run(tmp_path / "grid", STEPS, returns, swept={"actor_lr": [1e-4, 1.00001e-4]})
    text = page.html(run)
    for setting in (0, 1):
        assert f"grid, actor_lr 0.0001 (setting {setting}), 3 seeds" in text


def test_steps_of_more_than_32_bits_are_drawn_where_they_are(tmp_path):
    run = write_run(tmp_path / "run", [0, 3_000_000_000], np.ones((2, 1)))
    (line,) = page._lines(curves.load(run), "return_mean", "TD3", "blue")
    assert line["x"].tolist() == [0, 3e9]


def test_a_population_is_called_by_what_it_began_with(tmp_path):
    run = write_run(tmp_path / "run", [0, 100], np.ones((2, 2, 2)), swept={"actor_lr": [1e-4, 3e-4]}, pbt={"every": 1})
    assert set(curves.spoken(curves.load(run), run)["setting"]) == {"first_actor_lr 0.0001", "first_actor_lr 0.0003"}


def test_the_page_asks_for_nothing_from_outside(folder):
    text = (folder / page.FILE).read_text()
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?!data:)", text)
    assert len(text) < 2_000_000


def test_a_folder_without_runs_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        report.main([str(tmp_path)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "there is no run in" in error and error.count("\n") == 1


async def drag(shown, begin, end, moves=5):
    """Press at `begin`, release at `end`, as slowly as a hand."""
    places = np.linspace(begin, end, moves + 1).tolist()
    await shown.mouse("mousePressed", *places[0], button="left", clickCount=1, buttons=1)
    for place in places[1:]:
        await asyncio.sleep(0.1)
        await shown.mouse("mouseMoved", *place, button="left", buttons=1)
    await asyncio.sleep(0.1)
    await shown.mouse("mouseReleased", *end, button="left", clickCount=1)
    await asyncio.sleep(0.5)


@pytest.mark.skipif(browser.find() is None, reason="no Chromium is installed")
def test_a_browser_shows_the_seed_under_the_pointer_and_zooms(folder, tmp_path):
    async def script(shown):
        await shown.until("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
        left, top, width, height = await shown.run(FRAME)
        across = left + width / 2
        ys = itertools.islice(itertools.cycle(range(int(top), int(top + height), 4)), 1000)
        for y in ys:  # down over the curves, until one is under it
            await shown.mouse("mouseMoved", across, y)
            if "seed" in (tips := await shown.run(TIPS)):
                break
        end = "Object.values(Bokeh.index)[0].model.x_range.end"
        before = await shown.run(end)
        for _ in range(10):  # a loaded machine drops a drag that is faster than its frames
            await drag(shown, (across - 100, top + 100), (across, top + 150))
            if (after := await shown.run(end)) < before:
                break
        await shown.screenshot(tmp_path / "page.png")
        return tips, after / before, shown.requests, shown.errors

    tips, zoomed, requests, errors = browser.visit(folder / page.FILE, tmp_path / "profile", script)
    assert re.search(r"seed:?\s*[0-3]", tips) and re.search(r"of:?\s*(TD3|SAC)", tips)
    assert zoomed < 1
    assert not errors and all(address.startswith(("file:", "data:")) for address in requests)
    assert (tmp_path / "page.png").stat().st_size > 20_000
