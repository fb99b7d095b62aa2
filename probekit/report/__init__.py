"""Views of a result: result → page data → terminal, HTML, CSV, JSON."""
