"""What a run leaves on disk, and how it is read and drawn. No JAX here.

run_folder  the format of a run folder: run.toml, curves.csv, policy/, log.jsonl
curves      the curves of runs as a pandas DataFrame, and what each seed's came to
statistics  IQM, intervals, tests
comparison  settings beside each other: table.csv and figure.png of a sweep
figures     how curves are drawn; panels, picture  the figures of `purerl.plot` and of a run
page        report.html
published   returns and curves from the papers
naming      folders of new runs
"""
