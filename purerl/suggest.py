"""Words for a name that is not known."""

from difflib import get_close_matches


def closest(name, known):
    """The end of an error message: the names nearest to `name`, and all there are."""
    near = get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"{hint} known: {', '.join(known)}"
