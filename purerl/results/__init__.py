"""The files of a run: format, analysis and figures. No JAX here.

run_folder  the format of a run folder: run.toml, curves.csv, policy/, log.jsonl
curves      learning curves as a pandas DataFrame, and summaries of them
statistics  IQM, intervals, tests
comparison  comparison of settings: table.csv and figure.png of a sweep
figures     plots of learning curves
panels      the figure of `purerl.plot`
picture     curve.png
page        report.html
published   published returns and curves
naming      names of the folders of new runs
"""
