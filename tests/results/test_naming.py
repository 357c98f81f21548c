"""Names for the folders of new runs."""

from concurrent.futures import ThreadPoolExecutor

from purerl.results import naming


def test_of_many_who_make_a_folder_at_once_each_makes_its_own(tmp_path):
    with ThreadPoolExecutor(16) as workers:
        paths = list(workers.map(lambda _: naming.fresh(tmp_path / "runs" / "a"), range(64)))
    assert len(set(paths)) == 64 and all(path.is_dir() for path in paths)
