"""Sphinx builds the documentation: `sphinx-build -W docs docs/_build/html`. A broken link fails."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import generate  # noqa: E402 (from this folder)
from sphinx.application import Sphinx  # noqa: E402

project = "purerl"
author = "the purerl authors"
copyright = "2026, the purerl authors"
version = release = installed("purerl")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build", "generated"]
nitpicky = True
nitpick_ignore_regex = [("py:(class|obj|data|exc)", ".*")]  # Annotations name classes of libraries.

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # The notebooks are shown as they are kept.
nb_ipywidgets_js = {}  # The pages load nothing from the network.
nb_mime_priority_overrides = [("html", "text/html", 10), ("html", "image/png", 20)]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"purerl {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_copy_source = False
html_show_sourcelink = False


def setup(app: Sphinx) -> None:
    """Make the generated pages, and read docstrings as the plain text that they are."""
    app.connect("builder-inited", lambda app: generate.write(DOCS))
    app.connect("autodoc-process-docstring", lambda app, what, name, obj, options, lines: generate.to_rst(lines))
    app.connect("autodoc-process-signature", lambda app, *named: tuple(map(short, named[-2:])))
    app.connect("autodoc-skip-member", lambda app, what, name, obj, skip, options: is_field(obj) or None)


def short(annotations: str | None) -> str | None:
    """A signature or the annotation of a result, with the class of arrays as the code names it."""
    return annotations and annotations.replace("jaxlib._jax.Array", "Array")


def is_field(member: object) -> bool:
    """Whether it is a field of a NamedTuple. The signature of the class and its docstring describe it already."""
    return type(member).__name__ == "_tuplegetter"
