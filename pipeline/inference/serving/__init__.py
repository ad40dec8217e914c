"""A trained head or model behind HTTP, with a page to try it on."""
