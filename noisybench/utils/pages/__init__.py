"""HTML pages that need no network and no other file: templates, the style that all pages share, and their policy."""
