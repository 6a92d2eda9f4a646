"""Studies: what models tell of a question, as tables and a page. One module a study."""
