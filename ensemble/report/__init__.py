"""What people read: the text of `alphamix mix` and `alphamix run`, the figures, and the page in HTML.

Nothing is estimated here. `tables` formats numbers and names, `mixture_text` and `run_text` say what a comparison and a
run show, `figures` draws, and `html` puts all of a run on one page.
"""
