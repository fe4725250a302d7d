"""The evaluation on slices: test sets, matchers, measures, tables, figures."""
