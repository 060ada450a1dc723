"""What people read: the text of `alphamix mix` and `alphamix run`, the figures, and the page in HTML.

Nothing is estimated here. `formatting` formats numbers and names, `mixture_text` and `run_text` describe a comparison
and a run, `figures` draws, and `write` puts a whole run on one page.
"""
